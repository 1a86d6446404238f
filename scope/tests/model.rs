//! Random trees of scopes against a sequential reference: what a tree must come to is computed without any
//! engine, then the tree is run in every mode and on pools of every size, and drops are counted.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Count, MODES, POOLS, guarded_for, poll_once, yields};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use selvedge_scope::lending::with;
use selvedge_scope::{Pool, block_on, scope, try_scope};

/// How the handles of a scope's children are used.
#[derive(Clone, Copy, Debug)]
enum Joins {
    InOrder,
    Reversed,
    Dropped,
    /// Every other one.
    Some,
}

/// What one child does.
#[derive(Clone, Debug)]
enum Node {
    Leaf {
        yields: usize,
        value: u64,
    },
    /// Spawns a sibling into the same scope, which adds to the scope's sum.
    Sibling {
        yields: usize,
        value: u64,
    },
    /// An inner scope.
    Scope {
        yields: usize,
        joins: Joins,
        children: Vec<Node>,
    },
    /// A `try_scope`, whose children may fail; the error is a value here.
    Try {
        children: Vec<(Node, Option<u8>)>,
    },
    /// An inner scope that is polled that often and dropped.
    Dropped {
        polls: usize,
        children: Vec<Node>,
    },
    /// A panic in an inner scope, caught around it.
    Caught {
        children: Vec<Node>,
        bad: usize,
    },
}

/// What a child adds up to: leaves that run to their end, wherever they are, if they must.
fn expected(node: &Node) -> u64 {
    match node {
        Node::Leaf { value, .. } | Node::Sibling { value, .. } => *value,
        Node::Scope { children, .. } | Node::Caught { children, .. } => {
            children.iter().map(expected).sum()
        }
        Node::Try { children } => {
            let sum: u64 = children.iter().map(|(node, _)| expected(node)).sum();
            // Errors come after all the work of a child, so every child's work counts.
            sum + u64::from(children.iter().any(|(_, error)| error.is_some()))
        }
        Node::Dropped { .. } => 0,
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (0..4_usize, 1..100_u64).prop_map(|(yields, value)| Node::Leaf { yields, value }),
        (0..4_usize, 1..100_u64).prop_map(|(yields, value)| Node::Sibling { yields, value }),
    ];
    let joins = prop_oneof![
        Just(Joins::InOrder),
        Just(Joins::Reversed),
        Just(Joins::Dropped),
        Just(Joins::Some)
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let children = prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            3 => (0..3_usize, joins.clone(), children.clone())
                .prop_map(|(yields, joins, children)| Node::Scope { yields, joins, children }),
            1 => prop::collection::vec((inner, prop::option::weighted(0.3, any::<u8>())), 0..5)
                .prop_map(|children| Node::Try { children }),
            1 => (0..3_usize, children.clone()).prop_map(|(polls, children)| Node::Dropped { polls, children }),
            1 => (children, 0..6_usize).prop_map(|(children, bad)| Node::Caught { children, bad }),
        ]
    })
}

/// What a run needs to know.
struct World {
    pool: Pool,
    count: Arc<Count>,
    /// Caught panics that were planned.
    panics: AtomicUsize,
}

type Run<'a> = Pin<Box<dyn Future<Output = u64> + Send + 'a>>;

fn run<'a>(node: &'a Node, world: &'a World) -> Run<'a> {
    let one = world.count.one();
    match node {
        Node::Leaf {
            yields: times,
            value,
        }
        | Node::Sibling {
            yields: times,
            value,
        } => Box::pin(async move {
            let _one = one;
            yields(*times).await;
            *value
        }),
        Node::Scope {
            yields: times,
            joins,
            children,
        } => Box::pin(async move {
            let _one = one;
            run_scope(*times, *joins, children, world).await
        }),
        Node::Try { children } => Box::pin(async move {
            let _one = one;
            let total = AtomicUsize::new(0);
            let result = try_scope(async |s| {
                for (node, error) in children {
                    let total = &total;
                    s.spawn(async move {
                        let value = run(node, world).await;
                        total.fetch_add(usize::try_from(value).unwrap(), Ordering::SeqCst);
                        error.map_or(Ok(()), Err)
                    });
                }
                Ok(())
            })
            .on(&world.pool)
            .await;
            if let Err(error) = result {
                assert!(
                    children.iter().any(|(_, planned)| *planned == Some(error)),
                    "an error of a child"
                );
            }
            total.load(Ordering::SeqCst) as u64 + u64::from(result.is_err())
        }),
        Node::Dropped { polls, children } => Box::pin(async move {
            let _one = one;
            let mut scoped = Box::pin(
                scope(async |s| {
                    for node in children {
                        s.spawn(run(node, world));
                    }
                    common::never::<()>().await;
                })
                .on(&world.pool),
            );
            for _ in 0..*polls {
                assert!(futures::poll!(scoped.as_mut()).is_pending());
            }
            drop(scoped);
            0
        }),
        Node::Caught { children, bad } => Box::pin(async move {
            let _one = one;
            let total = AtomicUsize::new(0);
            let mut scoped = Box::pin(
                scope(async |s| {
                    for (i, node) in children.iter().enumerate() {
                        let total = &total;
                        s.spawn(async move {
                            let value = run(node, world).await;
                            total.fetch_add(usize::try_from(value).unwrap(), Ordering::SeqCst);
                            if i == *bad {
                                panic_any(Planned);
                            }
                        });
                    }
                })
                .on(&world.pool),
            );
            let outcome = std::future::poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| scoped.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(payload) => std::task::Poll::Ready(Err(payload)),
                }
            })
            .await;
            assert_eq!(
                outcome.is_err(),
                *bad < children.len(),
                "the panic came out"
            );
            if let Err(payload) = outcome {
                assert!(payload.is::<Planned>());
                world.panics.fetch_add(1, Ordering::SeqCst);
            }
            total.load(Ordering::SeqCst) as u64
        }),
    }
}

struct Planned;

async fn run_scope(times: usize, joins: Joins, children: &[Node], world: &World) -> u64 {
    let (total, siblings) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let add = |value: u64| total.fetch_add(usize::try_from(value).unwrap(), Ordering::SeqCst);
    let joined = scope(async |s| {
        let mut handles: Vec<_> = children
            .iter()
            .map(|node| {
                let (add, siblings) = (&add, &siblings);
                s.spawn_with(async move |s| {
                    if let Node::Sibling { .. } = node {
                        s.spawn(async move {
                            yields(1).await;
                            siblings.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                    let value = run(node, world).await;
                    add(value);
                    value
                })
            })
            .collect();
        yields(times).await;
        match joins {
            Joins::InOrder => {}
            Joins::Reversed => handles.reverse(),
            Joins::Dropped => handles.clear(),
            Joins::Some => {
                let mut keep = false;
                handles.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
        }
        let mut joined = 0;
        for handle in handles {
            joined += handle.await;
        }
        joined
    })
    .on(&world.pool)
    .await;
    let total = total.load(Ordering::SeqCst) as u64;
    let wanted = children
        .iter()
        .filter(|node| matches!(node, Node::Sibling { .. }))
        .count();
    assert_eq!(
        siblings.load(Ordering::SeqCst),
        wanted,
        "siblings ran before the scope ended"
    );
    assert!(joined <= total);
    if matches!(joins, Joins::InOrder | Joins::Reversed) {
        assert_eq!(joined, total, "handles yield what children computed");
    }
    total
}

/// Half of the runs are polled by hand, so that windows open and close often.
fn drive(future: Run<'_>, by_hand: bool) -> u64 {
    if !by_hand {
        return block_on(future);
    }
    let mut future = future;
    loop {
        if let std::task::Poll::Ready(value) = poll_once(future.as_mut()) {
            return value;
        }
    }
}

// Without unwinding noise: the planned panics would fill the log.
fn silence_planned_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            before(info);
        }
    }));
}

#[test]
fn random_trees_come_to_what_the_reference_says() {
    guarded_for(std::time::Duration::from_secs(300), || {
        silence_planned_panics();
        let mut runner = TestRunner::new(Config {
            cases: 600,
            failure_persistence: None,
            ..Config::default()
        });
        let (panics, biggest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let strategy = (nodes(), any::<bool>(), 0..MODES.len(), 0..POOLS.len());
        runner
            .run(&strategy, |(node, by_hand, mode, threads)| {
                let world = World {
                    pool: common::pool(POOLS[threads]),
                    count: Count::new(),
                    panics: AtomicUsize::new(0),
                };
                let value = with(MODES[mode], || drive(run(&node, &world), by_hand));
                proptest::prop_assert_eq!(value, expected(&node));
                proptest::prop_assert_eq!(world.count.made(), world.count.dropped());
                panics.fetch_add(world.panics.load(Ordering::SeqCst), Ordering::SeqCst);
                biggest.fetch_max(world.count.made(), Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        assert!(
            panics.load(Ordering::SeqCst) > 0,
            "trees with panics were among them"
        );
        assert!(
            biggest.load(Ordering::SeqCst) > 10,
            "big trees were among them"
        );
    });
}
