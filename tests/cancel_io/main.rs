//! `.cancellable()` in scopes, on real sockets: on tokio (many threads, one thread), smol, the executor of
//! futures and ours. What each single operation does is tested beside it, in `cancel/tests/io/`.
#![cfg(feature = "tokio")]

mod connections;
mod errors;
mod helpers;
mod items;
mod phases;
mod wire;
