//! `moecast swarm`: random small services, each held against laws that every run keeps.

use anyhow::Result;
use moecast_sim::serving::swarm::{self, Swarm};
use serde_json::json;

use crate::cli::{self, Global};
use crate::output::{Measure, Output, Table, report_panic};

pub(crate) fn run(arguments: &cli::swarm::Swarm, global: &Global, output: &Output) -> Result<()> {
    let bar = output.progress("swarm", arguments.scenarios, Measure::Count);
    // An assertion that fails is a broken law: the seed that repeats it says more than where it was.
    std::panic::set_hook(Box::new(|_| ()));
    let seen = swarm::swarm(global.seed, arguments.scenarios, &mut |done| bar.set_position(done));
    std::panic::set_hook(Box::new(report_panic));
    bar.finish_and_clear();
    let seen = seen?;
    let Swarm { scenarios, requests, passes, features } = &seen;
    let laws: Vec<&str> = swarm::laws().collect();
    let object = json!({
        "seed": global.seed,
        "scenarios": scenarios,
        "requests": requests,
        "passes": passes,
        "laws": laws,
        "features": features,
    });
    if output.json(&object)? {
        return Ok(());
    }
    output.note(&format!(
        "{scenarios} services from seed {} on kept {} laws, over {requests} requests and {passes} \
         forward passes\n",
        global.seed,
        laws.len()
    ))?;
    for law in laws {
        output.note(&format!("law: {law}"))?;
    }
    output.note("")?;
    let mut table = Table::new(&["feature", "services"]);
    for (name, count) in features {
        table.row([(*name).to_owned(), count.to_string()]);
    }
    output.table(&table)
}
