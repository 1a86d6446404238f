//! A value of a user's that is kept apart while other code of the user's runs. Should that panic, the value is dropped by the
//! unwinding, and a destructor that panics then would end the process.

use std::mem::needs_drop;

use selvedge_cancel::quietly;

/// A value of a user's whose destructor may panic, too, when a stage has panicked.
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[inline]
    pub(crate) fn get(&mut self) -> &mut T {
        self.0.as_mut().expect(Self::GIVEN)
    }

    pub(crate) fn give(mut self) -> T {
        self.0.take().expect(Self::GIVEN)
    }

    /// What `look` says of it, and itself.
    #[inline]
    pub(crate) fn while_seen<R>(value: T, look: impl FnOnce(&T) -> R) -> (T, R) {
        if !needs_drop::<T>() {
            let said = look(&value);
            return (value, said);
        }
        let mut held = Self::new(value);
        let said = look(held.get());
        (held.give(), said)
    }

    const GIVEN: &str = "it is given back at the end";
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        if !needs_drop::<T>() {
            return;
        }
        if let Some(value) = self.0.take() {
            quietly(|| drop(value));
        }
    }
}
