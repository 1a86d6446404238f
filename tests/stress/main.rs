//! A fuzzer of the engine: trees of scopes, batches and pipelines made from seeds, whose members spawn, cancel, panic,
//! keep wakers and drop what they can, while everything that is made, polled and dropped is counted.
//!
//! `cargo test` runs a few fixed seeds. `scripts/stress` runs for long; the environment says how:
//!
//! | variable | |
//! |---|---|
//! | `SELVEDGE_STRESS_MINUTES` | new seeds for so long, in as many processes as there are cores |
//! | `SELVEDGE_STRESS_SEED` | this seed, or those from `A..B`, again and again in one process |
//! | `SELVEDGE_STRESS_TIMES` | how often, instead of 200 times |
//! | `SELVEDGE_STRESS_TURNS` | how many polls of others a ready member may wait for, instead of what `drive` says |
//! | `SELVEDGE_STRESS_SHRINK` | looks for operations that can be left out of a seed that fails |
//! | `SELVEDGE_STRESS_LESS` | leaves these out |
//!
//! The tree of a seed is always the same; how its threads meet is not. Not a proof: what it cannot see is in the
//! models under loom.
#![cfg(feature = "testing")]
#![allow(
    clippy::manual_async_fn,
    reason = "members start members, so that their futures are `Send` has to stand in the signatures"
)]

mod agents;
mod drive;
mod groups;
mod handles;
mod less;
mod make;
mod members;
mod ops;
mod plan;
mod requests;
mod rng;
mod run;
mod scopes;
mod values;
mod world;

#[test]
fn random_trees_keep_what_the_engine_promises() {
    drive::start();
}
