//! Log lines: what passes, where it goes, how it looks.

mod json;

use crate::TelemetryError;
use crate::resource::Service;
use std::fs::OpenOptions;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{self, FormatFields, MakeWriter};
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Lines that wait for a slow disk; more are dropped and counted, the process goes on.
const BUFFERED_LINES: usize = 16_384;

/// Libraries that chatter at `info` and below, and the exporter's own inner workings.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,reqwest=warn,rustls=warn,\
                     async_nats=warn,object_store=warn,opentelemetry=warn,opentelemetry_sdk=warn,\
                     opentelemetry_otlp=warn,opentelemetry-otlp=warn";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Human,
    /// One JSON object a line, with `trace_id` and `span_id` when spans are exported.
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Folder of the log file (made if missing); `None` = no file.
    pub dir: Option<PathBuf>,
    pub format: LogFormat,
    /// Used when neither `COORD_LOG` nor `RUST_LOG` is set: `info`, or `info,bus=debug`.
    pub level: String,
    pub stderr: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { dir: None, format: LogFormat::Human, level: "info".to_owned(), stderr: true }
    }
}

/// One of the places that spans and events go to.
pub(crate) type Sink = Box<dyn Layer<Registry> + Send + Sync>;

/// What passes: a text for [`EnvFilter`], and what was wrong with the one given.
pub(crate) fn filter_from_env(level: &str) -> (String, Option<String>) {
    let given = ["COORD_LOG", "RUST_LOG"].iter().find_map(|name| {
        let text = std::env::var(name).ok().filter(|text| !text.trim().is_empty())?;
        Some((*name, text))
    });
    choose_filter(given, level)
}

fn choose_filter(given: Option<(&str, String)>, level: &str) -> (String, Option<String>) {
    let own = |text: &str| format!("{QUIET},{text}"); // later directives win over the quiet ones
    let fallback = match EnvFilter::try_new(own(level)) {
        Ok(_) => own(level),
        Err(_) => own("info"),
    };
    let Some((name, text)) = given else { return (fallback, None) };
    match EnvFilter::try_new(own(&text)) {
        Ok(_) => (own(&text), None),
        Err(e) => {
            let problem = format!("{name}={text:?} is no log filter ({e}); write info or info,bus=debug");
            (fallback, Some(problem))
        }
    }
}

pub(crate) fn sink<W>(format: LogFormat, filter: &str, writer: W) -> Sink
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(filter);
    let lines = fmt::layer().with_ansi(false).with_writer(writer);
    match format {
        LogFormat::Human => lines.fmt_fields(Own::<W>::default()).with_filter(filter).boxed(),
        LogFormat::Json => lines
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(json::JsonLines)
            .with_filter(filter)
            .boxed(),
    }
}

/// The fields of a span as text, kept apart for each place that lines go to. The subscriber keeps one text a
/// span and *type* of formatter: two layers of the same type would both append what is recorded later.
struct Own<W> {
    fields: DefaultFields,
    of: PhantomData<fn() -> W>,
}

// By hand: nothing is asked of the writer.
impl<W> Default for Own<W> {
    fn default() -> Self {
        Own { fields: DefaultFields::new(), of: PhantomData }
    }
}

impl<'w, W> FormatFields<'w> for Own<W> {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> std::fmt::Result {
        self.fields.format_fields(writer, fields)
    }
}

/// The log file of this process, written by a thread of its own.
pub(crate) struct LogFile {
    path: PathBuf,
    writer: NonBlocking,
    /// Writes what is buffered when dropped.
    _worker: WorkerGuard,
}

impl LogFile {
    /// Appends: a restarted process goes on in its file.
    pub(crate) fn open(dir: &Path, service: &Service) -> Result<LogFile, TelemetryError> {
        let path = dir.join(service.log_file_name());
        let failed = |source| TelemetryError::LogFile { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let (writer, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(BUFFERED_LINES)
            .lossy(true)
            .thread_name("log")
            .finish(file);
        Ok(LogFile { path, writer, _worker: worker })
    }

    pub(crate) fn writer(&self) -> NonBlocking {
        self.writer.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    /// What was written, shared with a layer; `N` makes it a type of its own.
    #[derive(Clone, Default)]
    struct Kept<const N: u8>(Arc<Mutex<Vec<u8>>>);

    impl<const N: u8> std::io::Write for Kept<N> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_field_recorded_later_is_told_once_in_each_place() {
        let (file, terminal) = (Kept::<0>::default(), Kept::<1>::default());
        let (to_file, to_terminal) = (file.clone(), terminal.clone());
        let sinks = vec![
            sink(LogFormat::Human, "info", move || to_file.clone()),
            sink(LogFormat::Human, "info", move || to_terminal.clone()),
        ];
        tracing::subscriber::with_default(tracing_subscriber::registry().with(sinks), || {
            let span = tracing::info_span!("attempt", job = "car/teacher", epoch = tracing::field::Empty);
            span.record("epoch", 7);
            span.in_scope(|| tracing::info!("saved"));
        });
        for bytes in [file.0, terminal.0] {
            let text = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
            assert!(text.contains("job=\"car/teacher\"") && text.contains("saved"), "{text}");
            assert_eq!(text.matches("epoch=7").count(), 1, "{text}");
        }
    }

    #[test]
    fn the_environment_wins_and_nonsense_is_told() {
        assert_eq!(choose_filter(None, "warn"), (format!("{QUIET},warn"), None));
        let given = |text: &str| choose_filter(Some(("COORD_LOG", text.to_owned())), "warn");
        assert_eq!(given("debug,bus=trace"), (format!("{QUIET},debug,bus=trace"), None));
        let (filter, problem) = given("info,=,!!");
        assert_eq!(filter, format!("{QUIET},warn"));
        assert!(problem.unwrap().contains("COORD_LOG=\"info,=,!!\""));
    }
}
