"""The benches: our figures beside limits and peers that ran in the same minute.

``python -m bench campaign --short`` runs one; ``docs/benchmarks.md`` says what each measures.
"""
