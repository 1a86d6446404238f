//! Windows: one poll of a scope, the threads that are inside it, and everything they share.
//!
//! `README.md` beside this file has the vocabulary, the protocol and its proof; rules W1–W15 and L1–L13 in
//! comments are explained there. This folder knows cells only through their headers, and nothing of what
//! users call a scope: `scope.rs`, `try_scope.rs` and `join.rs` are safe code on top of [`Handle`],
//! [`Engine`] and [`BatchEngine`].

#[cfg(any(feature = "tokio", all(test, selvedge_loom)))]
pub(crate) mod alarm;
mod around;
mod batch;
mod blame;
mod body;
mod budget;
mod circle;
mod closing;
mod context;
mod coop;
mod core;
mod core_ref;
mod costs;
mod count;
mod engine;
#[cfg(all(test, unix, not(selvedge_loom)))]
mod forking;
mod handle;
mod helper;
mod here;
mod hint;
mod host;
mod in_a_row;
mod inbox;
mod lends_to;
mod lent;
mod midway;
mod monitor;
mod notice;
mod outer;
mod owned;
mod owner;
mod packets;
mod panics;
mod parent;
mod policy;
#[cfg(all(test, not(selvedge_loom)))]
mod put_aside;
mod put_off;
#[cfg(all(test, selvedge_loom))]
pub(crate) mod seam;
mod settings;
mod shared;
mod side_by_side;
mod sinks;
mod spare;
pub(crate) mod stats;
mod step;
mod straight;
mod turns;
#[cfg(all(test, not(selvedge_loom)))]
mod unknown_parent;

pub(crate) use self::batch::BatchEngine;
pub(crate) use self::circle::{asks_for_child, may_wait_no_more, waker_is_cloned};
pub(crate) use self::core::Core;
pub(crate) use self::engine::Engine;
#[cfg(all(test, unix, not(selvedge_loom)))]
pub(crate) use self::forking::fork;
pub(crate) use self::handle::{Handle, Refusal};
pub use self::here::Lending;
pub(crate) use self::here::{RowAside, set_lending};
pub(crate) use self::here::{is_current_task, owned_here};
pub(crate) use self::hint::{Hint, learn_hint};
pub(crate) use self::sinks::{Classify, Errors, Failed, Sort};
pub(crate) use self::step::enqueue;
