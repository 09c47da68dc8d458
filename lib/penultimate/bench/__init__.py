"""Side-by-side measurements: what this library does and, written plainly, what one would do without it; python -m penultimate bench

One module per subject, each with `measure() -> [Row]`. `reasons() -> {row: (what, in the row's unit)}` says what takes the time where a
target may be missed, `shares` where a step's time goes. `card` and `gpu` measure where there is a CUDA GPU,
`slider` and `lab` in a browser.
"""

NAMES = ("loss", "step", "pipeline", "noise_sweep", "hessian", "startup", "card", "gpu")
ON_A_GPU = ("card", "gpu")
