//! `fork`, for the tests of the timer in a child process. Not for programs: a child of a process with several threads
//! has one of them only.

// SAFETY: `fork` has this signature on every Unix, and asks nothing of its caller. What the child may do is restricted
// by the state that other threads have left behind; the tests that call it have no other threads of their own.
unsafe extern "C" {
    /// Zero in the child; in the parent its number.
    pub(crate) safe fn fork() -> i32;
}
