//! The stages between source and terminal. Each wraps the pipe before it and is a pipe
//! itself; none holds a lock, allocates or knows of lanes. Terminals are in `sink`.

pub(crate) mod each;
pub(crate) mod fold;
pub(crate) mod map;
pub(crate) mod then;

/// `Debug` for stages: closures have none, so only the name and the pipe before are shown.
macro_rules! stage_debug {
    ($($stage:ident<P $(, $g:ident)*>;)*) => { $(
        impl<P: std::fmt::Debug $(, $g)*> std::fmt::Debug for $stage<P $(, $g)*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($stage)).field("pipe", &self.pipe).finish_non_exhaustive()
            }
        }
    )* };
}
pub(crate) use stage_debug;
