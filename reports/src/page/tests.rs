//! The page as a whole.

use super::*;
use crate::RunFile;
use crate::testing::{
    counted, elements, every_recording, every_shape, every_study, recording, small, study,
};

/// A run without statistics of its recording.
fn of(run: &RunFile) -> Subject<'_> {
    Subject::Run(run, None)
}

fn count(subject: Subject<'_>) -> usize {
    shown(subject).len()
}

fn words(html: &str) -> String {
    let lead = html.split("<p class=\"lead\">").nth(1).unwrap();
    lead.split("</p>").next().unwrap().to_owned()
}

#[test]
fn the_page_is_well_formed_and_whole_for_every_run() {
    for (shape, run) in every_shape() {
        let html = page(of(&run)).unwrap_or_else(|error| panic!("{shape}: {error}"));
        check_whole(shape, &html, count(of(&run)));
    }
    for (shape, file) in every_recording() {
        let subject = Subject::Recording(&file);
        let html = page(subject).unwrap_or_else(|error| panic!("{shape}: {error}"));
        check_whole(shape, &html, count(subject));
    }
    for (shape, file) in every_study() {
        let subject = Subject::Study(&file);
        let html = page(subject).unwrap_or_else(|error| panic!("{shape}: {error}"));
        check_whole(shape, &html, count(subject));
    }
}

fn check_whole(shape: &str, html: &str, expected: usize) {
    let names = elements(html);
    let figures = names.iter().filter(|name| *name == "figure").count();
    let drawings = names.iter().filter(|name| *name == "svg").count();
    assert_eq!((figures, drawings), (expected, 2 * expected), "{shape}");
}

#[test]
fn a_page_of_both_has_the_figures_of_both() {
    let (run, file) = (small(), recording());
    let both = Subject::Run(&run, Some(&file));
    let study = study(2, 2);
    let of_study = count(Subject::Study(&study));
    assert_eq!(count(both) + of_study, figures::ALL.len());
    assert_eq!(count(of(&run)) + count(Subject::Recording(&file)) + of_study, figures::ALL.len());
    let html = page(both).unwrap();
    assert!(html.contains("<h2>The recording</h2>"));
    assert!(html.contains("another recording than the one that was simulated"));
    assert!(!page(of(&run)).unwrap().contains("<h2>The recording</h2>"));
}

#[test]
fn a_page_of_a_recording_says_what_it_is_and_what_is_missing() {
    let html = page(Subject::Recording(&recording())).unwrap();
    assert!(html.contains("<title>Expert routing of toy</title>"));
    assert!(words(&html).starts_with(
        "This report describes a recording of toy (toy-recorder): 40 tokens of 1 request in 40 \
         steps, 2 MoE layers of 4 experts, of which a token chooses 2. The busiest expert"
    ));
    assert!(!html.contains("Not shown"));
    let html = page(Subject::Recording(&counted())).unwrap();
    assert!(html.contains("Not shown: active-experts, cache-hit-rate, coactivation,"), "{html}");
}

#[test]
fn the_program_is_named_once() {
    for subject in [of(&small()), Subject::Recording(&recording())] {
        assert!(page(subject).unwrap().contains("<dt>Made by</dt><dd>moecast 0.1.0</dd>"));
    }
}

#[test]
fn the_page_asks_for_nothing_from_outside() {
    let html = page(of(&small())).unwrap();
    for outside in ["http:", "https:", "src=", "href", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn what_a_file_says_stays_text() {
    let hostile = "</style></title><script>alert(1)</script><img src=x onerror=y>\"'&\u{0}";
    let mut run = small();
    for field in [&mut run.tool, &mut run.model, &mut run.cluster, &mut run.engine, &mut run.cost] {
        hostile.clone_into(field);
    }
    let trace = &mut run.trace;
    for field in [&mut trace.source, &mut trace.part, &mut trace.remarks[0]] {
        hostile.clone_into(field);
    }
    hostile.clone_into(&mut trace.inputs[0].name);
    hostile.clone_into(&mut trace.inputs[0].sha256);
    hostile.clone_into(&mut run.remarks[0]);
    hostile.clone_into(&mut run.candidates[0].name);
    hostile.clone_into(&mut run.candidates[1].name);
    let html = page(of(&run)).unwrap();
    let names = elements(&html);
    assert!(!names.iter().any(|name| name == "script" || name == "img"));
    let mut file = recording();
    for field in [&mut file.tool, &mut file.model, &mut file.source, &mut file.checks[0].name] {
        hostile.clone_into(field);
    }
    hostile.clone_into(&mut file.remarks[0]);
    hostile.clone_into(&mut file.stats.domains.as_mut().unwrap().parts[0]);
    elements(&page(Subject::Recording(&file)).unwrap());
    for figure in shown(Subject::Run(&run, Some(&file))) {
        let names = elements(&figure.svg().unwrap());
        let foreign = names.iter().any(|name| name == "script" || name == "img");
        assert!(!foreign, "{}", figure.entry.name);
    }
}

#[test]
fn the_summary_says_what_was_compared_on_what() {
    let mut run = small();
    assert_eq!(
        words(&page(of(&run)).unwrap()),
        "This report compares 2 placements of the experts of toy on desk:1x2 (2 ranks): \
         <strong>linear</strong> and <strong>plan</strong>. Each was simulated on the held-out \
         part of the recording (toy-recorder): 4 requests with 10 tokens that the planner did not \
         see. With linear, the busiest rank of a layer has 1.40 times the mean load and a step \
         takes 40.0 µs on average; with plan, it has 1.10 times the mean load and a step takes \
         30.0 µs (−25.0%)."
    );

    "train".clone_into(&mut run.trace.part);
    run.trace.requests = None;
    run.candidates.truncate(1);
    assert_eq!(
        words(&page(of(&run)).unwrap()),
        "This report shows the placement <strong>linear</strong> of the experts of toy on \
         desk:1x2 (2 ranks). It was simulated on the training part of the recording \
         (toy-recorder): 1 step with 10 tokens. The planner worked from the same steps, so the \
         plan looks better here than it will in use."
    );
}

#[test]
fn a_synthetic_recording_is_called_so_at_the_top() {
    let mut run = small();
    assert!(!page(of(&run)).unwrap().contains("class=\"badge\""));
    run.trace.synthetic = true;
    let html = page(of(&run)).unwrap();
    assert!(html.contains("<p class=\"badge\">Synthetic recording"));
    assert!(words(&html).contains("synthetic recording"));
}

#[test]
fn digests_remarks_and_version_are_on_the_page() {
    let html = page(of(&small())).unwrap();
    for fact in ["00ff", "12,345", "Costs are assumed.", "One request was empty.", "moecast 0.1.0"]
    {
        assert!(html.contains(fact), "{fact}");
    }
}

#[test]
fn a_change_for_the_better_is_marked_for_each_number_its_own_way() {
    let html = page(of(&small())).unwrap();
    assert!(html.contains("<td class=\"better\">−25.0%</td>"), "less time is better");
    assert!(html.contains("<td class=\"better\">+33.3%</td>"), "more tokens are better");
    assert!(!html.contains("class=\"worse\""));
}

#[test]
fn a_report_is_the_page_and_three_files_per_figure() {
    let files = write_files(of(&small())).unwrap();
    assert_eq!(files.len(), 1 + 3 * count(of(&small())));
    assert_eq!(files[0].0, "report.html");
    assert!(files.iter().any(|(path, _)| path == "figures/step-time.png"));
    assert!(files.iter().all(|(_, bytes)| !bytes.is_empty()));
    assert_eq!(files, write_files(of(&small())).unwrap());
}

#[test]
fn a_page_of_a_study_says_what_differs_and_what_cannot_exist() {
    let html = page(Subject::Study(&study(2, 3))).unwrap();
    assert!(words(&html).starts_with(
        "6 services that differ in gpu and load.set.clients. 1 cannot exist; the table says why. \
         Quickest for a request: <strong>gpu-"
    ));
    assert!(html.contains(">memory: 348 GB of weights on every GPU</td>"));
}
