//! Happy eyeballs: several ways to one goal are tried, each a little after the one before, and the first
//! that succeeds wins. The others are dropped where they stand, which here loses nothing.
//!
//! Each attempt is a task that borrows how to connect and where to report what went wrong. The scope is a
//! `try_scope` with the roles swapped: a connection is its `Err`, which ends the rest and is the result.

use std::net::{SocketAddr, ToSocketAddrs};
use std::{env, fmt::Debug, io, sync::Mutex, time::Duration};

use selvedge::{prelude::*, select, time, timeout};
use tokio::net::TcpStream;

/// What went wrong, and with which address, in the order in which it did.
pub type Problems = Vec<(SocketAddr, io::Error)>;

/// Connects to one of the addresses; each has this long for itself before the next is tried beside it.
pub async fn first_of<T, F>(
    addresses: &[SocketAddr],
    head_start: Duration,
    connect: impl Fn(SocketAddr) -> F + Sync,
) -> Result<T, Problems>
where
    T: Debug + Send,
    F: Future<Output = io::Result<T>> + Send,
{
    let problems = Mutex::new(Problems::new());
    let report = |address, problem| problems.lock().expect("no panic").push((address, problem));
    let nobody_won = try_scope(async |s| {
        for address in addresses {
            let attempt = s.spawn(async {
                match connect(*address).or_cancel().await {
                    Ok(Ok(connection)) => return Err(connection),
                    Ok(Err(problem)) => report(*address, problem),
                    Err(cancelled) => report(*address, cancelled.into()),
                }
                Ok(())
            });
            // Fails when somebody has won. Else it is time for the next, or this one has failed.
            if select((attempt, time::sleep(head_start))).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    match nobody_won.await {
        Err(connection) => Ok(connection),
        Ok(()) => Err(problems.into_inner().expect("no panic")),
    }
}

/// One address of each family in turn, so that a family that does not work costs one head start.
pub fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut addresses, four): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    for (nth, address) in four.into_iter().enumerate() {
        addresses.insert(addresses.len().min(2 * nth + 1), address);
    }
    addresses
}

fn main() -> io::Result<()> {
    let name = env::args().nth(1).unwrap_or("localhost:80".into());
    let addresses = in_turn(name.to_socket_addrs()?);
    let connecting = first_of(&addresses, Duration::from_millis(250), TcpStream::connect);
    let limited = timeout(Duration::from_secs(10), connecting);
    match tokio::runtime::Runtime::new()?.block_on(limited)? {
        Ok(connection) => println!("connected to {}", connection.peer_addr()?),
        Err(problems) => println!("nobody answers: {problems:?}"),
    }
    Ok(())
}
