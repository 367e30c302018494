use super::*;

#[test]
fn a_message_crosses_nothing_the_domain_or_the_network() {
    // Two nodes of two GPUs: ranks 0 and 1 share a switch, and so do ranks 2 and 3.
    use LinkClass::{Domain, Local, Network};
    let hardware = Hardware::from_spec("h200-sxm:2x2").unwrap();
    let expected = [
        [Local, Domain, Network, Network],
        [Domain, Local, Network, Network],
        [Network, Network, Local, Domain],
        [Network, Network, Domain, Local],
    ];
    for (source, row) in (0_u16..).zip(expected) {
        for (target, class) in (0_u16..).zip(row) {
            assert_eq!(hardware.route(Rank(source), Rank(target)), class, "{source} to {target}");
        }
    }
    assert_eq!((0..4).map(|rank| hardware.node_of(Rank(rank))).collect::<Vec<_>>(), [0, 0, 1, 1]);
}

#[test]
fn a_local_copy_has_no_link() {
    let hardware = Hardware::from_spec("h200-sxm:8").unwrap();
    assert_eq!(hardware.bandwidth(LinkClass::Local), None);
    assert_eq!(hardware.latency(LinkClass::Local), Nanos(0));
    // NVLink 4: 900 GB/s in both directions together.
    assert_eq!(hardware.bandwidth(LinkClass::Domain), Some(Bandwidth(450_000_000_000)));
    assert_eq!(hardware.bandwidth(LinkClass::Network), Some(Bandwidth(50_000_000_000)));
}

#[test]
fn a_spec_reads_back_what_it_wrote() {
    for spec in ["h200-sxm:1x8", "gb200-nvl72:2x72", "rtx-4090:4x1"] {
        let hardware = Hardware::from_spec(spec).unwrap();
        assert_eq!(hardware.spec(), spec);
        assert_eq!(hardware.ranks() % hardware.nodes(), 0);
    }
    assert_eq!(Hardware::from_spec("h200-sxm:4").unwrap().spec(), "h200-sxm:1x4");
}

#[test]
fn a_wrong_spec_is_answered_in_one_line() {
    let form = "text of another form; expected PRESET:NODESxGPUS, for example h200-sxm:1x8";
    let cases = [
        ("h200-sxm", format!("cluster: h200-sxm: {form}")),
        ("h200-sxm:", format!("cluster: h200-sxm:: {form}")),
        ("h200-sxm:1x", format!("cluster: h200-sxm:1x: {form}")),
        ("h200-sxm:70000x8", format!("cluster: h200-sxm:70000x8: {form}")),
        ("h200-sxm:0x8", "cluster: h200-sxm:0x8: 0 GPUs; expected between 1 and 4096".to_owned()),
        (
            "h200-sxm:65535x8",
            "cluster: h200-sxm:65535x8: 524280 GPUs; expected between 1 and 4096".to_owned(),
        ),
        (
            "h200-sxm:1x9",
            "cluster: h200-sxm:1x9: 9 GPUs in one node; expected at most 8, the domain of h200-sxm"
                .to_owned(),
        ),
    ];
    for (spec, answer) in cases {
        assert_eq!(Hardware::from_spec(spec).unwrap_err().to_string(), answer);
    }
    let answer = Hardware::from_spec("h20-sxm:1x8").unwrap_err().to_string();
    let start = "find hardware `h20-sxm`: did you mean `h200-sxm`? valid names are a100-sxm, b200,";
    assert!(answer.starts_with(start), "{answer}");
    assert!(!answer.contains('\n'), "{answer}");
}

#[test]
fn a_device_that_would_divide_by_zero_is_refused() {
    let mut device = builtin::device("h200-sxm").unwrap();
    device.domain_bandwidth.value = Bandwidth(0);
    let answer = Hardware::new(device, 1, 8).unwrap_err().to_string();
    assert_eq!(answer, "device h200-sxm: domain_bandwidth: 0; expected a figure above 0");
}

#[test]
fn a_device_that_idles_above_its_limit_is_refused() {
    let mut device = builtin::device("h200-sxm").unwrap();
    device.power_idle.value = Watts(701);
    let answer = device.validate().unwrap_err().to_string();
    let expected = "device h200-sxm: power_idle: 701 W; expected at most power_max, 700 W";
    assert_eq!(answer, expected);
}

#[test]
fn a_figure_without_a_source_is_refused() {
    let mut device = builtin::device("h200-sxm").unwrap();
    device.network_latency.source = " ".to_owned();
    let answer = device.validate().unwrap_err().to_string();
    let expected = "network_latency: no source; expected the document, table or reason";
    assert!(answer.ends_with(expected), "{answer}");
}

#[test]
fn narrow_weights_are_computed_at_the_rate_of_what_they_are_expanded_to() {
    let device = builtin::device("h100-sxm").unwrap();
    assert_eq!(device.flops(DataType::Fp8), Flops(1_979_000_000_000_000));
    assert_eq!(device.flops(DataType::Bf16), Flops(989_000_000_000_000));
    assert_eq!(device.flops(DataType::Mxfp4), device.flops(DataType::Bf16));
}
