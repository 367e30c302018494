//! The report page: one HTML file that needs nothing but itself.

use crate::Subject;
use crate::draw::{Width, paint};
use crate::error::Result;
use crate::figures::{self, Figure};

mod facts;
mod numbers;
mod recording;
mod study;
mod words;

pub(crate) use study::about as about_study;

const STYLE: &str = include_str!("page/style.css");

/// The whole page.
///
/// # Errors
/// When a figure cannot be drawn.
pub fn page(subject: Subject<'_>) -> Result<String> {
    let (title, lead, synthetic) = match subject {
        Subject::Run(run, _) => (
            format!("Expert placement of {} on {}", run.model, run.cluster),
            words::summary(run),
            run.trace.synthetic,
        ),
        Subject::Recording(file) => {
            (recording::title(file), recording::summary(file), file.synthetic)
        }
        Subject::Study(file) => (study::title(file), study::summary(file), false),
    };
    let mut html = head(&escape(&title));
    if synthetic {
        html += "<p class=\"badge\">Synthetic recording: not measured</p>\n";
    }
    html += &format!("<p class=\"lead\">{lead}</p>\n</header>\n<main>\n");
    let (of_recording, of_run): (Vec<_>, Vec<_>) =
        shown(subject).into_iter().partition(Figure::of_recording);
    if let Some(run) = subject.run() {
        html += &numbers::headlines(run);
        html += &numbers::comparison(run);
        html += "<h2>Figures</h2>\n";
        html += &drawn(&of_run)?;
    }
    if let Some(file) = subject.stats() {
        html += &subject
            .run()
            .map_or_else(|| "<h2>Figures</h2>\n".to_owned(), |run| recording::section(file, run));
        html += &drawn(&of_recording)?;
        html += &recording::absent(file);
    }
    if let Some(file) = subject.study() {
        html += &study::figure_section(&drawn(&of_run)?);
        html += &study::tables(file);
    }
    html += &match subject {
        Subject::Run(run, _) => facts::of_run(run),
        Subject::Recording(file) => facts::of_recording(file),
        Subject::Study(file) => facts::of_study(file),
    };
    html += "</main>\n</body>\n</html>\n";
    Ok(html)
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n:root{{{}}}\n\
         @media (prefers-color-scheme: dark){{:root{{{}}}}}\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n",
        paint::declarations(false),
        paint::declarations(true),
    )
}

/// The figures that `subject` has data for, in the order of the page.
fn shown(subject: Subject<'_>) -> Vec<Figure<'_>> {
    let mut figures: Vec<Figure<'_>> =
        figures::ALL.iter().filter_map(|entry| entry.of(subject)?.ok()).collect();
    figures.sort_by_key(|figure| figure.entry.order);
    figures
}

fn drawn(figures: &[Figure<'_>]) -> Result<String> {
    let mut html = String::new();
    for figure in figures {
        let (name, title) = (figure.entry.name, escape(&figure.title));
        html += &format!("<figure id=\"{name}\">\n<h3>{title}</h3>\n");
        for width in Width::ALL {
            html += &figure.inline(width)?;
        }
        let caption = escape(figure.entry.caption);
        html += &format!("<figcaption>{caption}</figcaption>\n</figure>\n");
    }
    Ok(html)
}

/// Every file of a report with its path under the report's folder, `/` between the parts: the
/// page, and each figure of it as SVG, PNG and CSV. The caller writes them.
///
/// # Errors
/// When a figure cannot be drawn.
pub fn write_files(subject: Subject<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![("report.html".to_owned(), page(subject)?.into_bytes())];
    for figure in shown(subject) {
        let path = |ending: &str| format!("figures/{}.{ending}", figure.entry.name);
        files.push((path("svg"), figure.svg()?.into_bytes()));
        files.push((path("png"), figure.png()?));
        files.push((path("csv"), figure.rows().csv().into_bytes()));
    }
    Ok(files)
}

/// Text as it may stand anywhere in HTML, quoted attributes included.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
