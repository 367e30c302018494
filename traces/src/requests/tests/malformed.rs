//! Wrong input is answered with one line that says where, what, and what would be right.

use super::*;

fn refused(format: &str, text: &str) -> String {
    let error = read_text(format, text).unwrap_err();
    assert!(!error.contains('\n'), "{error:?}");
    error
}

#[test]
fn csv_columns_are_strict() {
    let header = "the header `TIMESTAMP,ContextTokens,GeneratedTokens`";
    assert_eq!(
        refused("azure-csv", "TIMESTAMP,ContextToken,GeneratedTokens\n"),
        format!("a: line 1: unknown column `ContextToken`; expected `ContextTokens` in {header}")
    );
    assert_eq!(
        refused("azure-csv", "TIMESTAMP,ContextTokens\n"),
        format!("a: line 1: no column `GeneratedTokens`; expected {header}")
    );
    assert_eq!(
        refused("azure-csv", "TIMESTAMP,TIMESTAMP\n"),
        "a: line 1: column `TIMESTAMP` twice; expected each column once"
    );
    assert_eq!(
        refused("azure-csv", "price\n"),
        format!("a: line 1: unknown column `price`; expected {header}")
    );
    assert_eq!(
        refused("azure-csv", "\n\n"),
        format!("a: line 1: an empty file; expected {header}")
    );
}

#[test]
fn csv_rows_are_strict() {
    let row = |row: &str| {
        refused("azure-csv", &format!("TIMESTAMP,ContextTokens,GeneratedTokens\n\n{row}\n"))
    };
    assert_eq!(row("1,2"), "a: line 3: 2 fields in `1,2`; expected 3 fields");
    assert_eq!(
        row("yesterday,1,2"),
        "a: line 3: TIMESTAMP `yesterday`; expected a time like 2023-11-16 18:15:46.6805900"
    );
    for tokens in ["-1", "1.0", "4294967296", "", "many"] {
        assert_eq!(
            row(&format!("2023-11-16 18:15:46,{tokens},2")),
            format!(
                "a: line 3: ContextTokens `{tokens}`; \
                 expected a whole number of tokens from 0 to 4294967295"
            )
        );
    }
    let header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
    assert_eq!(
        refused("burstgpt-csv", &format!("{header}soon,GPT-4,1,1,2,API log")),
        "a: line 2: Timestamp `soon`; expected seconds, such as 45 or 0.123"
    );
    assert_eq!(
        refused("burstgpt-csv", header),
        "a: whole recording: no requests; expected at least one request"
    );
    assert_eq!(
        refused("burstgpt-csv", &header.replace("Log Type", "Log type")),
        "a: line 1: unknown column `Log type`; expected `Log Type` in the header \
         `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`"
    );
}

#[test]
fn json_keys_are_strict() {
    let shape = "{\"input_tokens\": n, \"output_tokens\": n, \"arrival\": seconds}";
    let good = "{\"input_tokens\":1,\"output_tokens\":2}";
    for (line, expected) in [
        (
            "{\"input_token\":1}",
            format!(
                "column 14: unknown key `input_token`; expected \
            `input_tokens` in {shape}"
            ),
        ),
        ("{\"x\":1}", format!("column 4: unknown key `x`; expected {shape}")),
        (
            "{\"input_tokens\":1,\"input_tokens\":1}",
            format!("column 32: duplicate key `input_tokens`; expected {shape}"),
        ),
        (
            "{\"input_tokens\":1}",
            format!("column 18: missing key `output_tokens`; expected {shape}"),
        ),
        (
            "{\"input_tokens\":-1}",
            format!("column 18: invalid value: integer `-1`, expected u32; expected {shape}"),
        ),
    ] {
        let error = refused("lengths-jsonl", &format!("{good}\n{line}\n"));
        assert_eq!(error, format!("a: line 2, {expected}"));
    }
    assert_eq!(
        refused("lengths-jsonl", &format!("{good}\n[1, 2]")),
        format!("a: line 2: `[1, 2]`; expected {shape}")
    );
    assert_eq!(
        refused("lengths-jsonl", &format!("{good}\n{}", good.replace('}', ",\"arrival\":1}"))),
        "a: line 2: an arrival; expected arrivals in every line or in none"
    );
}

#[test]
fn absurd_times_are_refused() {
    let line = |arrival: &str| {
        format!("{{\"input_tokens\":1,\"output_tokens\":2,\"arrival\":{arrival}}}\n")
    };
    assert!(refused("auto", &line("1e300")).contains("arrival 1e+300; expected a time"));
    let far = line("0") + &line("18446744073.709551616");
    assert!(refused("auto", &far).contains("ns after the first arrival; expected at most"));
    let far = line("-9223372036854775808") + &line("18446744073709551615");
    assert!(refused("auto", &far).contains("ns after the first arrival; expected at most"));
    assert!(read_text("auto", &(line("-1.5") + &line("0"))).is_ok());
}

#[test]
fn absurd_lines_are_refused() {
    let long = "x".repeat((4 << 20) + 1);
    assert_eq!(
        refused("azure-csv", &long),
        "a: line 1: more than 4194304 bytes; expected a shorter line"
    );
    let error = read_files("azure-csv", &[("a", b"TIME\xffSTAMP")]).unwrap_err();
    assert_eq!(error, "a: line 1: a byte that is not UTF-8 at column 5; expected text");
    // A key that holds a line break must not break the line of the error.
    refused("lengths-jsonl", "{\"a\\nb\": 1}");
    refused("lengths-jsonl", "{\"input_tokens\": \"a\\nb\"}");
    refused("azure-csv", "TIME\rSTAMP");
    refused("lengths-jsonl", &("{\"input_tokens\":".to_owned() + &"[".repeat(100_000)));
}

/// Whatever is cut off or flipped: an answer, never a panic; and what is read obeys the laws.
#[test]
fn truncated_and_flipped_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let answer = |format: &str, bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match read(format, std::slice::from_ref(&path)) {
            Ok(trace) => assert!(trace.arrivals().is_sorted() && trace.count() > 0),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    };
    for (format, _, bytes) in FIXTURES {
        for end in 0..bytes.len() {
            answer(format, &bytes[..end]);
        }
        for place in 0..bytes.len() {
            for mask in [0x01, 0x10, 0x80] {
                let mut flipped = bytes.to_vec();
                flipped[place] ^= mask;
                answer(format, &flipped);
            }
        }
    }
}
