//! Workloads and the interleaved runner that the benchmarks and the `bars` program share.
//!
//! Contestants run in turn in one process, because malloc, clock and neighbours have slow phases: a ratio
//! of runs a millisecond apart says more than two numbers of two processes. Not a test of correctness,
//! though every workload checks that its work was done.

pub mod burst;
pub mod fleet;
pub mod load;
pub mod pipe;
pub mod quiet;
pub mod report;
pub mod runner;
pub mod work;
