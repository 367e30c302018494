//! `moecast quickstart`: the main job, once, on the recording that ships with moecast.
//!
//! The recording is small and real: a little language model, trained from scratch on text of
//! several domains, served requests that it had not seen. `traces/sample/README.md` says how.

use std::path::Path;

use anyhow::Result;
use moecast_traces::format;
use moecast_traces::stats::stats;
use serde_json::json;

use crate::cli::{Global, Plan, Quickstart, Report, Simulate};
use crate::output::Output;
use crate::{files, plan, report, simulate, trace};

/// The recording, in our own format.
const RECORDING: &[u8] = include_bytes!("../traces/sample/sample.safetensors");
/// The shape of the model that it is a recording of.
const CONFIG: &[u8] = include_bytes!("../traces/sample/moecast-sample-8x32.json");

/// The file that it is written to; a model is called as its file.
const MODEL: &str = "moecast-sample-8x32.json";

/// Eight GPUs, and one slot of each for a second copy of an expert.
const CLUSTER: &str = "h200-sxm:1x8";
const REDUNDANT: u16 = 8;
const ENGINES: [&str; 4] = ["sglang", "trtllm", "vllm", "vllm-ascend"];

pub(crate) fn run(arguments: &Quickstart, global: &Global, output: &Output) -> Result<()> {
    let out = &arguments.out;
    let recording = out.join("trace.safetensors");
    let config = out.join(MODEL);
    files::write_bytes(&recording, RECORDING)?;
    files::write_bytes(&config, CONFIG)?;
    let loaded = format::read(&recording)?;
    let planned = plan::make(&plan_arguments(&recording, &config, out), global, output)?;
    let simulation = simulate_arguments(&recording, &config, out);
    let simulated = simulate::make(&simulation, global, output)?;
    let measured = stats(&loaded);
    trace::stats::write(&loaded, &measured, &[], &out.join("run"))?;
    let written = report::make(&Report { run: out.join("run"), out: None })?;
    if output.wants_json() {
        output.json(&json!({
            "trace": trace::stats::json_of(&loaded, &measured, &[])?,
            "plan": planned.json(),
            "run": simulated.json(),
            "report": written[0],
        }))?;
        return Ok(());
    }
    output.line("1. The recording: which experts a router chose, token by token")?;
    output.line(&format!("   {}: {}\n", recording.display(), trace::describe(&loaded)))?;
    output.line("2. The plan: which expert sits on which GPU, and which are copied")?;
    planned.print(output)?;
    output.line("\n3. The simulation: forward passes of requests that the planner did not see")?;
    simulated.print(output)?;
    output.note(
        "note: a model this small waits for kernel launches: look at the imbalance, not the time",
    )?;
    output.line("\n4. The report: open it in a browser")?;
    output.line(&format!("   {}", written[0]))?;
    output.note(&format!(
        "\nNext: the same on your own recording:\n   moecast trace import YOUR_RECORDING -o \
         trace.safetensors\n   moecast plan --trace trace.safetensors --model MODEL --cluster \
         {CLUSTER} --engine sglang --out plan"
    ))
}

fn plan_arguments(recording: &Path, config: &Path, out: &Path) -> Plan {
    Plan {
        trace: Some(recording.to_path_buf()),
        loads: None,
        model: Some(config.display().to_string()),
        cluster: Some(CLUSTER.to_owned()),
        gpus: None,
        nodes: None,
        redundant: Some(REDUNDANT),
        slots: None,
        groups: None,
        algorithm: "moecast".to_owned(),
        engine: ENGINES.map(str::to_owned).to_vec(),
        exchange: None,
        heldout: 0.3,
        out: Some(out.join("plan")),
    }
}

fn simulate_arguments(recording: &Path, config: &Path, out: &Path) -> Simulate {
    Simulate {
        scenario: None,
        trace: Some(recording.to_path_buf()),
        plan: Some(out.join("plan").join("plan.json")),
        model: Some(config.display().to_string()),
        cluster: None,
        engine: None,
        profile: None,
        exchange: None,
        cost: None,
        part: None,
        context: 2_048,
        out: out.join("run"),
    }
}
