//! What must not compile, as doctests with error codes, each beside a twin that compiles. SOUNDNESS §3, C1 to C15.
//!
//! Nothing here is code: the module exists for rustdoc alone. Errors about lifetimes have no code to name.

/// C1: a scope is `Send` only if its output is.
///
/// ```
/// use selvedge_scope::scope;
/// fn sent(_: impl Send) {}
/// sent(scope(async |_| std::sync::Arc::new(1)));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::scope;
/// fn sent(_: impl Send) {}
/// sent(scope(async |_| std::rc::Rc::new(1)));
/// ```
struct C1OutputThatStays;

/// C2: a `try_scope` is `Send` only if value and error are.
///
/// ```
/// use selvedge_scope::try_scope;
/// fn sent(_: impl Send) {}
/// sent(try_scope(async |_| Ok::<u8, std::sync::Arc<u8>>(1)));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::try_scope;
/// fn sent(_: impl Send) {}
/// sent(try_scope(async |_| Ok::<u8, std::rc::Rc<u8>>(1)));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::try_scope;
/// fn sent(_: impl Send) {}
/// sent(try_scope(async |_| Ok::<std::rc::Rc<u8>, u8>(std::rc::Rc::new(1))));
/// ```
struct C2ErrorThatStays;

/// C4: a scope does not move once it was polled, even if its body could.
///
/// ```
/// use selvedge_scope::scope;
/// use std::task::{Context, Waker};
/// let mut opened = Box::pin(scope(|_| std::future::ready(1)));
/// let _ = opened.as_mut().poll(&mut Context::from_waker(Waker::noop()));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::scope;
/// use std::task::{Context, Waker};
/// let mut opened = scope(|_| std::future::ready(1));
/// let _ = std::pin::Pin::new(&mut opened).poll(&mut Context::from_waker(Waker::noop()));
/// ```
struct C4MoveAfterPoll;

/// C5: the output lives as long as the scope's borrows, also where the future alone would be `'static`.
///
/// ```
/// use selvedge_scope::Scope;
/// fn spawn(s: &Scope<'static>) {
///     s.spawn(async { None::<&'static u8> });
/// }
/// ```
/// ```compile_fail
/// use selvedge_scope::Scope;
/// fn spawn<'a>(s: &Scope<'static>, _: &'a u8) {
///     s.spawn(async { None::<&'a u8> });
/// }
/// ```
struct C5OutputThatBorrows;

/// C9: a handle whose output looks at borrowed data when it is dropped cannot outlive that data.
///
/// ```
/// use selvedge_scope::{block_on, scope};
/// struct Looks<'a>(&'a String);
/// impl Drop for Looks<'_> {
///     fn drop(&mut self) { assert_eq!(self.0, "data"); }
/// }
/// let data = String::from("data");
/// let handle = block_on(scope(async |s| s.spawn(async { Looks(&data) })));
/// drop(handle);
/// drop(data);
/// ```
/// ```compile_fail,E0505
/// use selvedge_scope::{block_on, scope};
/// struct Looks<'a>(&'a String);
/// impl Drop for Looks<'_> {
///     fn drop(&mut self) { assert_eq!(self.0, "data"); }
/// }
/// let data = String::from("data");
/// let handle = block_on(scope(async |s| s.spawn(async { Looks(&data) })));
/// drop(data);
/// drop(handle);
/// ```
struct C9HandleThatOutlives;

/// C10: handles to scopes and children neither shrink nor grow.
///
/// ```
/// use selvedge_scope::{JoinHandle, Scope};
/// fn same<'a>(s: Scope<'a>, h: JoinHandle<'a, u8>) -> (Scope<'a>, JoinHandle<'a, u8>) { (s, h) }
/// ```
/// ```compile_fail
/// use selvedge_scope::Scope;
/// fn shrink<'a>(s: Scope<'static>, _: &'a u8) -> Scope<'a> { s }
/// ```
/// ```compile_fail
/// use selvedge_scope::Scope;
/// fn grow<'a>(s: Scope<'a>) -> Scope<'static> { s }
/// ```
/// ```compile_fail
/// use selvedge_scope::JoinHandle;
/// fn shrink<'a>(h: JoinHandle<'static, u8>, _: &'a u8) -> JoinHandle<'a, u8> { h }
/// ```
/// ```compile_fail
/// use selvedge_scope::JoinHandle;
/// fn grow<'a>(h: JoinHandle<'a, u8>) -> JoinHandle<'static, u8> { h }
/// ```
/// ```compile_fail
/// use selvedge_scope::TryScope;
/// fn shrink<'a>(s: TryScope<'static, u8>, _: &'a u8) -> TryScope<'a, u8> { s }
/// ```
struct C10Variance;

/// C13: data that is declared after the scope dies before it.
///
/// ```
/// use selvedge_scope::{block_on, scope};
/// let data = String::from("data");
/// let opened = scope(async |s| s.spawn(async { data.len() }).await);
/// assert_eq!(block_on(opened), 4);
/// ```
/// ```compile_fail,E0597
/// use selvedge_scope::{Scope, block_on, scope};
/// let mut kept = None;
/// let opened = scope(|s: Scope<'_>| {
///     kept = Some(s);
///     std::future::ready(())
/// });
/// let data = String::from("data");
/// kept.unwrap().spawn(async { data.len() });
/// block_on(opened);
/// ```
/// The body's own locals die before the children do:
/// ```compile_fail,E0373
/// use selvedge_scope::{block_on, scope};
/// block_on(scope(async |s| {
///     let local = String::from("data");
///     s.spawn(async { local.len() }).await
/// }));
/// ```
struct C13DataThatDiesFirst;

/// C14: closures and futures of children may go to another thread.
///
/// ```
/// use selvedge_scope::{block_on, scope};
/// let shared = std::sync::Arc::new(1);
/// let there = shared.clone();
/// assert_eq!(block_on(scope(async |s| s.spawn_fn(move || *there).await)), 1);
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::{block_on, scope};
/// let shared = std::rc::Rc::new(1);
/// let there = shared.clone();
/// block_on(scope(async |s| s.spawn_fn(move || *there).await));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::{block_on, scope};
/// block_on(scope(async |s| s.spawn(async { std::rc::Rc::new(1) }).await));
/// ```
struct C14ChildThatStays;

/// C15: the errors of a `try_scope`'s children go to another thread.
///
/// ```
/// use selvedge_scope::{block_on, try_scope};
/// let failed = block_on(try_scope(async |s| {
///     s.spawn(async { Err::<(), _>(std::sync::Arc::new(1)) });
///     Ok(())
/// }));
/// assert!(failed.is_err());
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::{block_on, try_scope};
/// let _ = block_on(try_scope(async |s| {
///     s.spawn(async { Err::<(), _>(std::rc::Rc::new(1)) });
///     Ok(())
/// }));
/// ```
struct C15ErrorOfAChildThatStays;

/// The error of a `try_scope` can be searched for a `Cancelled`, which takes `Debug`.
///
/// ```
/// use selvedge_scope::try_scope;
/// #[derive(Debug)]
/// struct Failure;
/// drop(try_scope(async |_| Err::<(), _>(Failure)));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::try_scope;
/// struct Failure;
/// drop(try_scope(async |_| Err::<(), _>(Failure)));
/// ```
struct ErrorThatCannotBeSearched;

/// The same for the output of a `timeout`; a `try_timeout` asks it of the error alone.
///
/// ```
/// use selvedge_scope::try_timeout;
/// struct Value;
/// drop(try_timeout(std::time::Duration::MAX, async { std::io::Result::Ok(Value) }));
/// ```
/// ```compile_fail,E0277
/// use selvedge_scope::timeout;
/// struct Value;
/// drop(timeout(std::time::Duration::MAX, async { std::io::Result::Ok(Value) }));
/// ```
struct OutputThatCannotBeSearched;
