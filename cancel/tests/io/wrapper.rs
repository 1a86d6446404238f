//! The wrapper as a value: what it wraps, what it is made of, and that it changes nothing outside
//! every scope.

use futures::executor::block_on;
use futures::io::{AsyncReadExt, Cursor};
use futures::{StreamExt, stream};
use selvedge_cancel::IoCancelExt;

#[test]
fn what_is_wrapped_is_seen_changed_and_given_back() {
    let mut wrapped = vec![1].cancellable();
    wrapped.get_mut().push(2);
    assert_eq!(wrapped.get_ref(), &[1, 2]);
    assert_eq!(wrapped.into_inner(), [1, 2]);
    let mut wrapped = vec![1].try_cancellable();
    wrapped.get_mut().push(2);
    assert_eq!(wrapped.get_ref(), &[1, 2]);
    assert_eq!(wrapped.into_inner(), [1, 2]);
}

#[test]
fn outside_every_scope_everything_works() {
    let mut text = String::new();
    block_on(Cursor::new("warp").cancellable().read_to_string(&mut text)).unwrap();
    assert_eq!(text, "warp");
    let items: Vec<_> = block_on(stream::iter(0..3).cancellable().collect());
    assert!(items.into_iter().map(Result::unwrap).eq(0..3));
}

#[test]
fn borrowed_and_boxed_things_are_wrapped_as_well() {
    let mut reader = Cursor::new("warp");
    let mut two = [0; 2];
    block_on((&mut reader).cancellable().read_exact(&mut two)).unwrap();
    assert_eq!(two, *b"wa");
    let boxed: Box<dyn futures::AsyncRead + Unpin> = Box::new(&mut reader);
    block_on(boxed.cancellable().read_exact(&mut two)).unwrap();
    assert_eq!(two, *b"rp");
    // What is not `Unpin` goes into a box first.
    let lazy = Box::pin(stream::once(async { 5 }));
    let mut lazy = lazy.cancellable();
    assert_eq!(block_on(lazy.next()).map(Result::unwrap), Some(5));
}

#[cfg(feature = "tokio")]
#[test]
fn extension_traits_of_both_families_are_told_apart_by_what_is_wrapped() {
    use tokio::io::AsyncReadExt as _;

    let mut two = [0; 2];
    let mut of_futures = Cursor::new("cd").cancellable();
    block_on(of_futures.read_exact(&mut two)).unwrap();
    assert_eq!(two, *b"cd");
    let (mut near, far) = tokio::io::duplex(8);
    let mut of_tokio = far.cancellable();
    block_on(tokio::io::AsyncWriteExt::write_all(&mut near, b"ef")).unwrap();
    block_on(of_tokio.read_exact(&mut two)).unwrap();
    assert_eq!(two, *b"ef");
}
