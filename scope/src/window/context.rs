//! What a helper takes over from the owner while it is inside (rule W8): cancel token, timer, tokio's
//! runtime handle, and whether nested scopes lend.
//!
//! It is captured by the owner when a window begins to lend, read by the helper after it has entered, and
//! taken off before it leaves; nothing of it points into the owner's stack.

use selvedge_cancel::ambient;

use super::here::{self, Lending};

#[derive(Clone, Debug)]
pub(crate) struct Carried {
    ambient: ambient::Context,
    lending: Lending,
    #[cfg(feature = "tokio")]
    tokio: Option<tokio::runtime::Handle>,
}

/// Puts back what the thread had.
struct Restore(Option<ambient::Context>, Lending);

impl Drop for Restore {
    fn drop(&mut self) {
        here::set_lending(self.1);
        if let Some(before) = self.0.take() {
            drop(before.install());
        }
    }
}

impl Carried {
    /// What the thread of the owner has.
    pub(crate) fn capture() -> Self {
        Self {
            ambient: ambient::Context::capture(),
            lending: here::lending(),
            #[cfg(feature = "tokio")]
            tokio: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// Runs `work` under it.
    pub(crate) fn around(self, work: impl FnOnce()) {
        let before = self.ambient.install();
        let _restore = Restore(Some(before), here::set_lending(self.lending));
        #[cfg(feature = "tokio")]
        let _runtime = self.tokio.as_ref().map(tokio::runtime::Handle::enter);
        work();
    }
}
