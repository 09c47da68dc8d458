"""What the study makes of runs: what is measured of them and kept as records, the rules that judge these, tables, claims."""
