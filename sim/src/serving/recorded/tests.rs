use moecast_traces::{Header, TokenRow, TraceBuilder};
use proptest::prelude::*;
use rand::SeedableRng;

use super::*;

/// Two requests: `lengths` rows of prompt, three generated, of random picks: 2 of 8, 3 layers.
fn trace(lengths: [u32; 2], seed: u64) -> RoutingTrace {
    let mut generator = Generator::seed_from_u64(seed);
    let header = Header::new("test", "toy", 8, 2, vec![0, 1, 2]);
    let mut builder = TraceBuilder::new(header);
    for (request, length) in (0..).zip(lengths) {
        for position in 0..length + 3 {
            let mut experts = Vec::new();
            for _ in 0..3 {
                let first = generator.random_range(0..8_u16);
                experts.extend([first, (first + generator.random_range(1..8)) % 8]);
            }
            let phase = if position < length { Phase::Prefill } else { Phase::Decode };
            let step = request * 1000 + position;
            let experts = &experts;
            let row = TokenRow { request, position, step, phase, experts, weights: None };
            builder.push_token(row);
        }
    }
    builder.finish("test").unwrap()
}

proptest! {
    #[test]
    fn a_chunk_is_the_sum_of_its_tokens(
        lengths in [1_u32..70, 1_u32..70],
        first in 0_u32..200,
        count in 0_u32..200,
        borrowed in 0_u32..2,
        seed in 0_u64..100,
    ) {
        let library = Library::new(&trace(lengths, seed)).unwrap();
        let layers = 0..3;
        let mut chunk = vec![0; 3 * library.counters];
        let (mut single, mut direct) = (chunk.clone(), chunk.clone());
        library.add_prompt(Tokens { borrowed, first, count }, &layers, &mut chunk);
        for number in first..first + count {
            let tokens = Tokens { borrowed, first: number, count: 1 };
            library.add_prompt(tokens, &layers, &mut single);
        }
        prop_assert_eq!(&chunk, &single);
        // Every token picks twice in each of three layers.
        prop_assert_eq!(chunk.iter().sum::<u32>(), count * 6);
        let rows = &library.requests[borrowed as usize];
        let length = rows.prompt.len() as u32;
        for number in first..first + count {
            let row = rows.prompt.start + (number % length) as usize;
            library.add_row(row, &layers, &mut direct, 1);
        }
        prop_assert_eq!(&chunk, &direct);
    }
}
