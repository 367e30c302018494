use super::*;
use crate::hardware::SourceKind;
use crate::registry::Named;

fn engines() -> Vec<Engine> {
    ALL.iter().map(|preset| find(preset.name).unwrap()).collect()
}

fn refused(text: &str, part: &str) {
    let error = Engine::read(text, "mine.toml").unwrap_err().to_string();
    assert!(error.starts_with("mine.toml") && error.contains(part), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn every_engine_is_valid_and_called_as_it_is_listed() {
    for (engine, preset) in engines().iter().zip(ALL) {
        assert_eq!((engine.name.as_str(), engine.about.as_str()), (preset.name, preset.about()));
    }
}

/// What plans and recordings of before rely on.
#[test]
fn replica_rules_are_those_of_the_sources() {
    let rules = [
        ("ktransformers", ReplicaRule::Static),
        ("llama.cpp", ReplicaRule::Static),
        ("sglang", ReplicaRule::Static),
        ("sglang-dynamic", ReplicaRule::Dynamic),
        ("trtllm", ReplicaRule::RoundRobin),
        ("vllm", ReplicaRule::TokenHash),
        ("vllm-ascend", ReplicaRule::RankModulo),
    ];
    let found: Vec<(String, ReplicaRule)> =
        engines().into_iter().map(|engine| (engine.name, engine.replica_rule.value)).collect();
    let expected: Vec<(String, ReplicaRule)> =
        rules.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect();
    assert_eq!(found, expected);
}

#[test]
fn only_the_study_is_called_a_measurement() {
    for engine in engines() {
        for figure in [&engine.host_time, &engine.ttft_offset] {
            let study = figure.source.starts_with("feasibility study");
            assert_eq!(figure.kind == SourceKind::Measured, study, "{}", engine.name);
        }
        let seen = ["sglang", "sglang-dynamic", "trtllm", "vllm"].contains(&engine.name.as_str());
        assert_eq!(engine.host_time.kind == SourceKind::Measured, seen, "{}", engine.name);
        assert_eq!(engine.ttft_offset.kind == SourceKind::Measured, seen, "{}", engine.name);
    }
}

#[test]
fn figures_of_the_study_are_within_its_ranges() {
    let ranges = [("sglang", 110.0..=200.0), ("trtllm", 60.0..=260.0), ("vllm", 10.0..=67.0)];
    for (name, range) in ranges {
        let engine = find(name).unwrap();
        assert!(range.contains(&(engine.ttft_offset.value.as_micros() / 1e3)), "{name}");
        assert!((400.0..=1_300.0).contains(&engine.host_time.value.as_micros()), "{name}");
    }
}

#[test]
fn a_version_changes_what_it_says_and_nothing_else() {
    let engine = find("vllm").unwrap();
    let changed = engine.at("0.16.0");
    assert_eq!(changed.host_time.value, Nanos(4_100_000));
    let mut same = changed.clone();
    same.host_time = engine.host_time.clone();
    same.versions.clone_from(&engine.versions);
    assert_eq!(same, engine);
    for version in ["0.17.0", "0.15.2", "unknown", "gpt-oss-dev"] {
        assert_eq!(engine.at(version).host_time, engine.host_time, "{version}");
    }
    assert!(!engine.at("0.12.0").host_overlap.value && engine.at("0.14.0").host_overlap.value);
}

#[test]
fn small_sums_take_the_engines_own_kernels_and_large_ones_nccl() {
    for name in ["sglang", "trtllm", "vllm"] {
        let engine = find(name).unwrap();
        let backend = |bytes| engine.backend(Operation::AllReduce, Phase::Decode, Bytes(bytes));
        assert_eq!(backend(64 << 10), Backend::CustomAllReduce, "{name}");
        assert_eq!(backend(64 << 20), Backend::Nccl, "{name}");
    }
    let exchange =
        |name, phase| find(name).unwrap().backend(Operation::ExpertExchange, phase, Bytes(1));
    assert_eq!(exchange("sglang", Phase::Decode), Backend::DeepepLowLatency);
    assert_eq!(exchange("sglang", Phase::Prefill), Backend::DeepepNormal);
    assert_eq!(exchange("vllm", Phase::Decode), Backend::AllgatherReduceScatter);
    assert_eq!(exchange("trtllm", Phase::Decode), Backend::OneSidedNvlink);
    assert_eq!(exchange("llama.cpp", Phase::Decode), Backend::HostCopy);
}

#[test]
fn kernels_depend_on_the_gpu() {
    let engine = find("sglang").unwrap();
    assert_eq!(engine.kernels(Family::DecodeAttention, "h200-sxm"), ["fa3"]);
    assert_eq!(engine.kernels(Family::DecodeAttention, "gb200-nvl72"), ["trtllm", "flashinfer"]);
    assert!(engine.kernels(Family::DecodeAttention, "rtx-4090").is_empty());
}

#[test]
fn an_engine_of_ones_own_is_like_a_shipped_one() {
    let text = "name = \"mine\"\nlike = \"vllm\"\n[host_time]\nvalue = \"2 ms\"\n\
        kind = \"measured\"\nsource = \"my benchmark\"\n";
    let mine = Engine::read(text, "mine.toml").unwrap();
    assert_eq!((mine.name.as_str(), mine.host_time.value), ("mine", Nanos(2_000_000)));
    // The versions of the engine that it is like still say what they changed.
    assert_eq!(mine.at("0.16.1").host_time.value, Nanos(4_100_000));
    assert_eq!(mine.at("0.16.1").name, "mine");
}

#[test]
fn wrong_files_are_answered_in_a_line() {
    let like = "name = \"mine\"\nlike = \"vllm\"\n";
    let figure = |key: &str, value: &str, source: &str| {
        format!("{like}[{key}]\nvalue = {value}\nkind = \"assumed\"\nsource = \"{source}\"\n")
    };
    refused("name = \"mine\"\nlike = \"vlm\"\n", "did you mean `vllm`?");
    refused("name = \"mine\"\nlike = 3\n", "like");
    refused("name = \"mine\"\n", "missing field");
    refused("name = \"mine\"\n[host_time\n", "line 2");
    refused(&figure("host_tim", "\"2 ms\"", "x"), "unknown field `host_tim`");
    refused(&figure("host_time", "2", "x"), "expected a string");
    refused(&figure("host_time", "\"2 ms\"", " "), "host_time: no source");
    refused(&figure("sequences_max", "0", "x"), "sequences_max: 0");
    refused(&figure("decode_factor", "nan", "x"), "decode_factor: NaN");
    refused(&figure("kv_memory", "{ share = 1.5, of = \"total\" }", "x"), "kv_memory: 1.5");
    refused(&format!("{like}versions = 3\n"), "[[versions]]");
    refused(&format!("{like}communication = []\n"), "communication: no rule for AllReduce");
    let version = |text: &str| format!("{like}[[versions]]\n{text}\n");
    refused(&version("from = \"main\""), "`main` is no version");
    refused(&version("from = \"2\"\nuntil = \"1\""), "from before until");
    refused(&version("name = \"other\""), "entry 1 of versions: name");
    refused(&version("[versions.host_tim]\nvalue = 1"), "entry 1 of versions");
    refused(&version("until = \"2\"\n[[versions]]\nfrom = \"1\""), "do not overlap");
}

#[test]
fn an_unknown_engine_is_answered_with_the_valid_ones() {
    let error = find("vlm").unwrap_err().to_string();
    assert!(error.contains("did you mean `vllm`?"), "{error}");
}
