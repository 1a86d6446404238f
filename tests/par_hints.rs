//! `heavy` and `cheap` on pipelines: when help is asked for, counted. Alone in its binary, because the counter counts the
//! whole process.
#![cfg(feature = "testing")]

use selvedge::testing::lending::help_counts;
use selvedge::{IntoPar, Pool, block_on};

#[test]
fn hints_of_a_pipeline_say_when_help_is_asked_for() {
    let pool = &Pool::builder().threads(1).build();
    let asks = |heavy: bool| {
        let items = (0..4_u64).into_par().on(pool);
        let items = if heavy { items.heavy() } else { items.cheap() };
        let before = help_counts().asks;
        let sum: u64 = block_on(items.map(|n| n + 1).sum());
        assert_eq!(sum, 10);
        help_counts().asks - before
    };
    assert_eq!(asks(false), 0);
    assert!(asks(true) > 0);
    // By now it is known what the lanes cost, which is little unless the machine was busy meanwhile.
    assert!(asks(true) > 0);
    assert!((0..1000).any(|_| asks(false) == 0));
}
