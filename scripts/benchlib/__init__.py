"""The benchmark behind scripts/bench. data makes what is backed up, tools knows how each program is called, measure runs
and reads, rows says what is measured, report writes docs/bench.md."""
