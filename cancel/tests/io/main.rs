//! `.cancellable()` and `.try_cancellable()`: what each operation does before, while and after a
//! cancellation comes. Tokens are made current by hand here; scopes and real sockets are in the
//! tests of the whole system.
#![cfg(not(selvedge_loom))]

mod halves;
mod items;
mod operations;
mod probe;
mod wrapper;
