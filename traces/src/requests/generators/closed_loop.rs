//! A fixed number of clients, each of which sends its next request when its last one is answered:
//! a benchmark at constant concurrency. Arrivals depend on the server, so this makes a plan
//! without times.

use super::{Entry, REQUESTS_MAX, Setting, Task};
use crate::error::{Error, Result};
use crate::requests::load::{ClosedLoop, Load};

pub(super) const ENTRY: Entry = Entry {
    name: "closed-loop",
    about: "constant concurrency: each client sends its next request when one is answered",
    settings: &[
        Setting::count("clients", "requests in the system at a time"),
        Setting::count("requests-per-client", "requests that each client sends").or(10.0),
    ],
    generate,
};

fn generate(task: &Task<'_>) -> Result<Load> {
    let (clients, turns) = (task.count("clients"), task.count("requests-per-client"));
    let Some(count) = clients.checked_mul(turns).filter(|&count| count <= REQUESTS_MAX) else {
        let found = format!("{clients} clients with {turns} requests each");
        let expected = format!("at most {REQUESTS_MAX} requests");
        return Err(Error::invalid(ENTRY.name, "all settings", found, expected));
    };
    let mut lengths = task.lengths.sampler(task.seed);
    let requests = (0..count).map(|_| lengths.draw()).collect();
    let mut header = task.header();
    lengths.remark(&mut header);
    Ok(Load::Closed(ClosedLoop { header, clients, requests }))
}
