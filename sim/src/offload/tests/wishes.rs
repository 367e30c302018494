//! Wishes of prefetchers: what they copy, in which version, and how often they are right.

use super::*;

#[test]
fn a_right_wish_hides_a_copy_and_a_wrong_one_delays_demand() {
    let model = model(2, 2, 1);
    let trace = trace(&model, &[vec![0, 1]]);
    let mut setup = setup(&model, &trace, 4);
    let plain = run(&setup).unwrap();
    assert_eq!(ends(&plain), [2 * 1150]);
    setup.prefetcher = prefetch::find("next-layer").unwrap();
    let run = run(&setup).unwrap();
    // The wish for expert 0 starts with the pass and saves the layer 100. The one for expert 1 is
    // dropped when the router has spoken. At 1000 the wrong wish for layer 1 starts, and demand,
    // which comes at 1150, waits for it until 2000.
    assert_eq!(ends(&run), [3050]);
    assert_eq!((run.wished, run.wishes_used), (2, 1));
}

/// The three experts of layer 1 have 0.7, 0.25 and 0.05 of the gate weight: the first is wished for
/// in high precision, the second in low, the third not at all.
#[test]
fn wishes_are_for_the_version_that_is_used() {
    let model = model(2, 6, 3);
    let header = Header::new("test", "tiny", 6, 3, vec![0, 1]);
    let mut builder = TraceBuilder::new(header);
    builder.push_token(TokenRow {
        request: 0,
        position: 0,
        step: 0,
        phase: Phase::Decode,
        experts: &[0, 1, 2, 3, 4, 5],
        weights: Some(&[0.7, 0.25, 0.05, 0.7, 0.25, 0.05]),
    });
    let mut setup = setup(&model, &Arc::new(builder.finish("test").unwrap()), 12);
    setup.shape.versions = 2;
    setup.shape.nested = false;
    setup.shape.bytes = [1000, 400].repeat(12);
    setup.cache.version_shares = vec![0.5, 0.5];
    setup.rule = rule::find("hobbit").unwrap();
    let plain = run(&setup).unwrap();
    setup.prefetcher = prefetch::find("pre-gated").unwrap();
    // Long enough for all wishes to start.
    setup.kernels = Arc::new(Given { layer: Nanos(10_000), ..Given::default() });
    let wished = run(&setup).unwrap();
    assert_eq!((plain.link_bytes, wished.link_bytes), (2800, 2800));
    assert_eq!((wished.wished, wished.wishes_used), (2, 2));
}

/// `count` tokens of two layers of 16 experts, two each, that follow no pattern.
fn scattered(count: u64) -> Vec<Vec<u16>> {
    let mut state = 1_u64;
    let mut draw = |below: u16| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        u16::try_from((state >> 33) % u64::from(below)).unwrap()
    };
    let mut layer = || {
        let first = draw(16);
        [first, (first + 1 + draw(15)) % 16]
    };
    (0..count).map(|_| [layer(), layer()].concat()).collect()
}

fn foreseen(name: &str, accuracy: Option<f64>, depth: usize, tokens: &[Vec<u16>]) -> Summary {
    let model = model(2, 16, 2);
    let mut setup = setup(&model, &trace(&model, tokens), 8);
    setup.prefetcher = prefetch::find(name).unwrap();
    setup.prefetch.accuracy = accuracy;
    setup.prefetch.depth = depth;
    run(&setup).unwrap().summary()
}

/// Who knows everything is always right and misses nothing, who wishes for everything misses
/// nothing, and who is given an accuracy is right as often: 4000 experts are wished for one layer
/// ahead, and there is no gate before the first of two layers, so that half is found.
#[test]
fn prefetchers_are_right_as_often_as_they_should_be() {
    let tokens = scattered(2000);
    let oracle = foreseen("oracle", None, 2, &tokens);
    assert_eq!((oracle.prefetch_precision, oracle.prefetch_recall), (vec![1.0; 2], vec![1.0; 2]));
    let all = foreseen("next-layer", None, 2, &tokens);
    assert_eq!((all.prefetch_precision, all.prefetch_recall), (vec![0.125; 2], vec![1.0; 2]));
    for accuracy in [0.0, 0.6, 0.96, 1.0] {
        let own = foreseen("gate-ahead", Some(accuracy), 1, &tokens);
        let error = 4.0 * (accuracy * (1.0 - accuracy) / 4000.0).sqrt();
        assert!((own.prefetch_precision[0] - accuracy).abs() <= error, "{own:?}");
        assert_eq!(own.prefetch_recall[0], own.prefetch_precision[0] / 2.0);
    }
}

/// Every entry, also ones to come.
#[test]
fn no_prefetcher_is_right_more_often_than_it_wishes() {
    let tokens = scattered(50);
    for entry in prefetch::ALL {
        let own = foreseen(entry.name, None, 2, &tokens);
        let shares = own.prefetch_precision.iter().chain(&own.prefetch_recall);
        assert!(shares.into_iter().all(|share| (0.0..=1.0).contains(share)), "{}", entry.name);
        assert_eq!(own.prefetch_precision.len(), own.prefetch_recall.len());
        let blurred = entry.accuracy == prefetch::Accuracy::Given;
        assert!(entry.looks_ahead || !blurred, "{} is given an accuracy of what?", entry.name);
    }
    assert!(foreseen("none", None, 2, &tokens).prefetch_precision.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Exact wishes copy no byte that demand would not, in whatever version.
    #[test]
    fn exact_wishes_copy_what_is_used(tokens in arbitrary_tokens(), nested in any::<bool>()) {
        let model = model(3, 6, 2);
        let trace = trace(&model, &tokens);
        let mut setup = setup(&model, &trace, 36);
        setup.shape.versions = 2;
        setup.shape.nested = nested;
        setup.shape.bytes = if nested { [600, 400] } else { [1000, 400] }.repeat(18);
        setup.cache.version_shares = if nested { vec![1.0] } else { vec![0.5, 0.5] };
        setup.rule = rule::find("hobbit").unwrap();
        let plain = run(&setup).unwrap();
        setup.prefetcher = prefetch::find("pre-gated").unwrap();
        let wished = run(&setup).unwrap();
        prop_assert!(wished.link_bytes <= plain.link_bytes);
        setup.machine.swap = true;
        prop_assert_eq!(run(&setup).unwrap(), wished, "nobody leaves, nothing goes back");
    }
}
