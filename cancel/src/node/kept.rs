//! One thing that a node keeps for somebody else and drops when it is dropped. Whoever leaves one here sees to it
//! that it holds no node.

use std::any::Any;

use super::Node;
use crate::sync::Arc;
use crate::user::let_go;

pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

impl Node {
    /// What the node keeps.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.lock().rare()?.kept.clone()
    }

    /// Keeps this. The first one stays; for a later one it is given back as the error.
    pub(crate) fn keep(&self, kept: Kept) -> Result<(), Kept> {
        let mut locked = self.lock();
        let rare = locked.cold().rare();
        match &rare.kept {
            Some(first) => {
                let first = Arc::clone(first);
                // User code may run in the destructor of what was refused: not under the lock (T5).
                drop(locked);
                let_go(kept);
                Err(first)
            }
            None => {
                rare.kept = Some(kept);
                Ok(())
            }
        }
    }
}
