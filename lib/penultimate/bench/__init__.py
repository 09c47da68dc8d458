"""Side-by-side measurements: what this library does and, written plainly, what one would do without it; python -m penultimate bench

One module per subject, each with `measure() -> [Row]`, `step` with `shares` of its time too; `gpu` measures where there is a CUDA GPU,
`slider` and `lab` in a browser.
"""

NAMES = ("loss", "step", "pipeline", "noise_sweep", "hessian", "startup", "gpu")
