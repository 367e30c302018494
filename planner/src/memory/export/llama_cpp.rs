//! llama.cpp: a file of arguments, for `llama-server -m MODEL.gguf $(cat llama.cpp.args)`.
//!
//! `-ngl 99` puts all layers on the GPU; `-ot "REGEX=BUFFER,..."` then places tensors by name: the
//! first expression that is found anywhere in a name (`std::regex_search`) decides, a comma ends an
//! entry, the first `=` ends an expression. A layer's experts are one tensor per projection, so
//! that single experts cannot be placed: a plan is rounded to whole layers, those that it wants
//! most and not the first ones. `--n-cpu-moe N` is the same for the first N layers.
//!
//! [`verify`] matches the rules of such a file with the names that the architecture has: what no
//! rule or two rules catch, what is caught and is no expert, and which rule catches nothing.

use regex_lite::{Regex, RegexBuilder};

use super::tensors::{Tensor, tensors};
use super::{Context, Entry, File, Residency, Setting, Written, arguments, lacks, rounding};
use crate::error::{Error, Result};
use crate::memory::MemoryPlan;

pub(super) const ENTRY: Entry = Entry {
    name: "llama.cpp",
    about: "llama.cpp: -ot rules for the layers whose experts stay in host memory",
    write,
    read,
    launch,
};

const NAME: &str = "llama.cpp.args";
/// The experts of a layer, as `--n-cpu-moe` names them.
const EXPERTS: &str = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps";
const HOST: &str = "CPU";

/// Longest expression and most of them: what one file may cost.
const REGEX_BYTES_MAX: usize = 1 << 18;
const RULES_MAX: usize = 1024;

/// What the rules of a file do with the tensors of an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `[M]` whether any expert tensor of the layer is in host memory.
    pub is_on_host: Vec<bool>,
    /// Tensors that no rule catches: they go where `-ngl` puts their layer.
    pub unmatched: Vec<String>,
    /// Tensors that more than one rule catches, with the rules, from 0; the first one decides.
    pub twice: Vec<(String, Vec<usize>)>,
    /// Tensors that a rule catches and that hold no routed experts.
    pub strays: Vec<String>,
    /// Rules that catch nothing, from 0.
    pub idle: Vec<usize>,
}

/// A rule: where tensors go whose names hold the expression.
struct Rule {
    regex: Regex,
    buffer: String,
}

fn write(plan: &MemoryPlan, setting: &Setting<'_>) -> Result<Written> {
    plan.check()?;
    let Some(hidden) = plan.hidden_layers else {
        let expected = "how many layers the model has, dense ones included: plan with --model";
        return Err(lacks("hidden_layers", expected));
    };
    let mut remarks = Vec::new();
    let is_whole = rounding::whole_layers(plan, setting, &mut remarks);
    remarks.extend(rounding::other_compute(plan, "cpu"));
    if setting.architecture.is_none() {
        remarks.push(
            "the architecture of the model is not known: rules were matched with the names that \
             experts have in every architecture"
                .to_owned(),
        );
    }
    remarks.extend(rounding::own_bits(plan));
    let on_host: Vec<String> = (plan.layers.iter().zip(&is_whole))
        .filter(|(_, whole)| !**whole)
        .map(|(layer, _)| layer.to_string())
        .collect();
    // The engine counts the output as one more layer.
    let all = if hidden < 99 { 99 } else { 99_999 };
    let rule = match on_host.as_slice() {
        [] => String::new(),
        [layer] => format!(r" -ot blk\.{layer}{EXPERTS}={HOST}"),
        layers => format!(r" -ot blk\.({}){EXPERTS}={HOST}", layers.join("|")),
    };
    let text = format!("-ngl {all}{rule}\n");
    let files = vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }];
    let context = Context::of(plan, *setting, NAME);
    let residency = Residency { pinned: context.whole(&is_whole), cache_bytes: 0 };
    // What was written is matched with the names, as the engine will.
    let read = read(&files, &context)?;
    assert_eq!(read, residency, "the rule catches other layers");
    Ok(Written { files, residency, remarks })
}

fn read(files: &[File], context: &Context<'_>) -> Result<Residency> {
    let verdict = verify(context.file(files, NAME)?, context)?;
    let refuse =
        |found: String, expected: &str| Err(Error::invalid(&context.path, "-ot", found, expected));
    if let Some((name, rules)) = verdict.twice.first() {
        return refuse(format!("{name} is caught by rules {rules:?}"), "one rule per tensor");
    }
    if let Some(name) = verdict.strays.first() {
        return refuse(format!("a rule catches {name}"), "rules for routed experts alone");
    }
    if let Some(rule) = verdict.idle.first() {
        return refuse(format!("rule {rule} catches nothing"), "rules that catch tensors");
    }
    let is_whole: Vec<bool> = verdict.is_on_host.iter().map(|on_host| !on_host).collect();
    Ok(Residency { pinned: context.whole(&is_whole), cache_bytes: 0 })
}

/// Matches the rules of the argument file `bytes` with every tensor that the model of `context` can
/// have.
///
/// # Errors
/// When the file is none that the engine takes, or leaves layers out of GPU memory by `-ngl`.
pub fn verify(bytes: &[u8], context: &Context<'_>) -> Result<Verdict> {
    let hidden = context.hidden_layers.ok_or_else(|| {
        lacks("hidden_layers", "how many layers the model has, dense ones included")
    })?;
    let rules = rules(bytes, hidden, context)?;
    let mut verdict =
        Verdict { is_on_host: vec![false; context.layers.len()], ..Verdict::default() };
    let mut is_idle = vec![true; rules.len()];
    for Tensor { name, experts_of } in
        tensors(context.setting.architecture, hidden, &context.layers)
    {
        let caught: Vec<usize> =
            (0..rules.len()).filter(|&rule| rules[rule].regex.is_match(&name)).collect();
        caught.iter().for_each(|&rule| is_idle[rule] = false);
        let Some(&first) = caught.first() else {
            verdict.unmatched.push(name);
            continue;
        };
        match experts_of {
            Some(layer) if rules[first].buffer == HOST => verdict.is_on_host[layer] = true,
            Some(_) => {}
            None => verdict.strays.push(name.clone()),
        }
        if caught.len() > 1 {
            verdict.twice.push((name, caught));
        }
    }
    verdict.idle = (0..rules.len()).filter(|&rule| is_idle[rule]).collect();
    Ok(verdict)
}

fn rules(bytes: &[u8], hidden: u16, context: &Context<'_>) -> Result<Vec<Rule>> {
    let mut words = arguments::words(bytes, context)?.into_iter();
    let mut rules = Vec::new();
    let mut on_gpu = 0_u32;
    while let Some(flag) = words.next() {
        match flag {
            "-ngl" | "--gpu-layers" | "--n-gpu-layers" => {
                on_gpu = arguments::number(&mut words, flag, context)?;
            }
            "-ot" | "--override-tensor" => {
                for entry in arguments::value(&mut words, flag, context)?.split(',') {
                    rules.push(rule(entry, context)?);
                }
            }
            "-cmoe" | "--cpu-moe" => rules.push(rule(&format!("{EXPERTS}={HOST}"), context)?),
            "-ncmoe" | "--n-cpu-moe" => {
                let count: u16 = arguments::number(&mut words, flag, context)?;
                for layer in 0..count.min(hidden) {
                    rules.push(rule(&format!(r"blk\.{layer}{EXPERTS}={HOST}"), context)?);
                }
            }
            other => {
                let expected = "-ngl, -ot, --cpu-moe or --n-cpu-moe";
                return Err(arguments::invalid(context, other, expected));
            }
        }
        if rules.len() > RULES_MAX {
            let found = format!("more than {RULES_MAX} rules");
            return Err(Error::invalid(&context.path, "arguments", found, "fewer"));
        }
    }
    if on_gpu <= u32::from(hidden) {
        let expected = format!("-ngl of at least {}, all layers and the output", hidden + 1);
        return Err(arguments::invalid(context, &format!("-ngl {on_gpu}"), &expected));
    }
    Ok(rules)
}

fn rule(entry: &str, context: &Context<'_>) -> Result<Rule> {
    let Some((regex, buffer)) = entry.split_once('=').filter(|(_, buffer)| !buffer.is_empty())
    else {
        return Err(arguments::invalid(context, entry, "REGEX=BUFFER"));
    };
    let mut builder = RegexBuilder::new(regex);
    let regex = builder.size_limit(REGEX_BYTES_MAX).build().map_err(|_| {
        arguments::invalid(context, regex, "an expression that std::regex and we read alike")
    })?;
    Ok(Rule { regex, buffer: buffer.to_owned() })
}

fn launch(plan: &MemoryPlan, written: &Written) -> String {
    let is_whole = |row: &Vec<_>| !row.is_empty();
    let kept: Vec<bool> = written.residency.pinned.iter().map(is_whole).collect();
    let on_host = kept.iter().filter(|kept| !**kept).count();
    // Host layers first, then none: that has a flag of its own.
    let equal = match (on_host, kept[..on_host].iter().all(|kept| !kept)) {
        (0, _) => "All experts stay in GPU memory.\n".to_owned(),
        (count, true) => {
            let layers = plan.layers[count - 1] + 1;
            format!("The same as --n-cpu-moe {layers}: the first layers are those on the host.\n")
        }
        _ => "No --n-cpu-moe says the same: these are not the first layers.\n".to_owned(),
    };
    format!(
        "Start with the arguments in {NAME}; they need no quotes:\n\n    \
         llama-server -m MODEL.gguf $(cat {NAME})\n\n\
         Experts of {on_host} of {} MoE layers are in host memory and computed there.\n{equal}",
        plan.layers.len()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tensors::{ALL, of_model};
    use super::*;

    fn context(name: &str) -> Context<'static> {
        let setting = Setting {
            architecture: Some(super::super::tensors::find(name).unwrap()),
            ..Setting::default()
        };
        Context {
            path: "f".to_owned(),
            layers: (1..13).collect(),
            hidden_layers: Some(13),
            experts: 4,
            layer_bytes: vec![400; 12],
            setting,
        }
    }

    #[test]
    fn a_rule_for_layer_1_does_not_catch_layer_11() {
        for architecture in ALL {
            let text = br"-ngl 99 -ot blk\.(1|12)\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU";
            let verdict = verify(text, &context(architecture.name)).unwrap();
            let expected: Vec<bool> = (1..13).map(|layer| layer == 1 || layer == 12).collect();
            assert_eq!(verdict.is_on_host, expected, "{}", architecture.name);
            assert_eq!((verdict.strays.len(), verdict.twice.len()), (0, 0));
            assert!(verdict.unmatched.contains(&"blk.11.ffn_up_exps.weight".to_owned()));
        }
    }

    #[test]
    fn careless_rules_are_reported() {
        let of = |text: &[u8]| verify(text, &context("deepseek2")).unwrap();
        // Layers 10 to 12, and shared experts are caught too.
        let loose = of(br"-ngl 99 -ot blk\.1\d\.ffn_up=CPU");
        assert_eq!(loose.is_on_host.iter().filter(|on_host| **on_host).count(), 3);
        assert!(loose.strays.contains(&"blk.10.ffn_up_shexp.weight".to_owned()), "{loose:?}");
        // The first match wins, and both are named.
        let both = of(br"-ngl 99 -ot blk\.3\.ffn_up_exps=CUDA0,exps=CPU");
        assert_eq!(both.twice, [("blk.3.ffn_up_exps.weight".to_owned(), vec![0, 1])]);
        assert!(both.is_on_host.iter().all(|on_host| *on_host));
        let idle = of(br"-ngl 99 -ot blk\.0\.ffn_up_exps=CPU");
        assert_eq!(idle.idle, [0]);
        // A separate expression per projection is the granularity that there is.
        let part = of(br"-ngl 99 -ot blk\.5\.ffn_down_exps=CPU");
        assert_eq!(part.is_on_host.iter().position(|on_host| *on_host), Some(4));
    }

    #[test]
    fn the_flags_for_the_first_layers_are_the_same_as_rules() {
        let of = |text: &[u8]| verify(text, &context("qwen3moe")).unwrap().is_on_host;
        let rules = br"-ngl 99 -ot blk\.(1|2)\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU";
        assert_eq!(of(b"-ngl 99 --n-cpu-moe 3"), of(rules));
        assert_eq!(of(b"-ngl 99 --cpu-moe"), [true; 12]);
    }

    #[test]
    fn what_the_engine_would_not_take_is_refused() {
        for (text, expected) in [
            ("-ngl 13", "f: arguments: `-ngl 13`; expected -ngl of at least 14"),
            ("-ngl x", "f: arguments: `x`; expected a number after -ngl"),
            ("-ngl 99 -ot", "f: arguments: `-ot`; expected a value after it"),
            ("-ngl 99 -ot exps", "f: arguments: `exps`; expected REGEX=BUFFER"),
            ("-ngl 99 -ot (=CPU", "f: arguments: `(`; expected an expression"),
            ("-ngl 99 -ot ex{1,3}ps=CPU", "f: arguments: `ex{1`; expected REGEX=BUFFER"),
            ("-ngl 99 -ot .*=CPU", "f: arguments: `.*=CPU`; expected words that a shell takes"),
            ("-ngl 99 -c 4096", "f: arguments: `-c`; expected -ngl, -ot"),
        ] {
            let error = verify(text.as_bytes(), &context("llama")).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn shipped_models_have_an_architecture() {
        for (model, name) in [
            ("deepseek-v2-lite", "deepseek2"),
            ("gpt-oss-120b", "gpt-oss"),
            ("mixtral-8x7b", "llama"),
            ("qwen3-30b-a3b", "qwen3moe"),
            ("Qwen1.5-MoE-A2.7B", "qwen2moe"),
        ] {
            assert_eq!(of_model(model).unwrap().name, name);
        }
        assert!(of_model("openmoe-8b").is_none());
    }
}
