//! Shared workloads and the interleaved runner of the benchmarks.
