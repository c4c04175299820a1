//! The windows of one capture as they come: graphs for the detectors, times, and how long ids have been silent.

use std::collections::VecDeque;

use crate::attack::AttackKind;
use crate::digest::ContentDigest;
use crate::error::Result;
use crate::frames::Frames;
use crate::graph::{CaptureBuilder, IdSpace};
use crate::graph_set::{CaptureInfo, GraphSet};
use crate::silence::{SilenceConfig, Vehicle, Watch};
use crate::vocabulary::Vocabulary;
use crate::window::WindowConfig;

/// Windows in the order of the capture; all lists are of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    pub graphs: GraphSet,
    /// Times of the first and the last message, in the capture's own seconds.
    pub start_s: Vec<f64>,
    pub end_s: Vec<f64>,
    /// Longest silence of a periodic id, see [`crate::silence`].
    pub silence: Vec<f32>,
}

/// Takes messages chunk by chunk and gives the windows that are full. Holds a window's worth of messages, and the
/// first ones of a capture as long as the encoding of the graphs wants to have seen them.
pub struct WindowStream<'a> {
    builder: CaptureBuilder,
    watch: Watch<'a>,
    rows: Rows,
}

impl<'a> WindowStream<'a> {
    /// For one capture, its ids numbered as the model knows them.
    ///
    /// # Errors
    /// `BadSetting` for windows out of range.
    pub fn new(
        config: &WindowConfig,
        vocabulary: &Vocabulary,
        silence: &SilenceConfig,
        known: &'a [Vehicle],
    ) -> Result<Self> {
        config.validate()?;
        let capture = CaptureInfo {
            folder: String::new(),
            name: String::new(),
            attack_kind: AttackKind::from_names("", ""),
            sha256: ContentDigest::of(b""),
            has_labels: true,
        };
        Ok(Self {
            builder: CaptureBuilder::new(config, IdSpace::of(vocabulary), capture),
            watch: Watch::new(silence.warm_up_messages, known),
            rows: Rows { config: *config, waiting: VecDeque::new(), to_skip: 0, seen: 0 },
        })
    }

    /// Takes the next messages; gives the windows they complete.
    ///
    /// # Errors
    /// As the building of graphs.
    pub fn push(&mut self, frames: &Frames) -> Result<Windows> {
        for (&time_s, &id) in frames.timestamp_s.iter().zip(&frames.id) {
            self.rows.push(Row { time_s, silence: self.watch.next(time_s, id) });
        }
        self.builder.push(frames)?;
        Ok(self.rows.windows(self.builder.drain()))
    }

    /// The windows still to come at the end of the capture. Where it is shorter than a window, it is one itself.
    ///
    /// # Errors
    /// As the building of graphs.
    pub fn finish(mut self) -> Result<Windows> {
        Ok(self.rows.windows(self.builder.finish()?))
    }
}

/// One message that a window may begin with.
#[derive(Debug, Clone, Copy)]
struct Row {
    time_s: f64,
    silence: f32,
}

/// The messages that the coming windows are made of.
struct Rows {
    config: WindowConfig,
    /// Those with a successor, in front of which `to_skip` belong to no coming window.
    waiting: VecDeque<Row>,
    to_skip: usize,
    /// Messages of the capture so far.
    seen: u64,
}

impl Rows {
    fn push(&mut self, row: Row) {
        if !self.config.loses(self.seen) {
            self.waiting.push_back(row);
        }
        self.seen += 1;
    }

    /// The windows that `graphs` were made of: the next ones.
    fn windows(&mut self, graphs: GraphSet) -> Windows {
        let count = graphs.len();
        let list = || Vec::with_capacity(count);
        let mut windows = Windows { graphs, start_s: list(), end_s: list(), silence: Vec::new() };
        // Less only where the whole capture is: its last message is nobody's predecessor.
        let length = u64::from(self.config.window).min(self.config.transitions(self.seen)) as usize;
        for _ in 0..count {
            self.skip();
            let rows = || self.waiting.iter().take(length);
            windows.start_s.extend(rows().next().map(|row| row.time_s));
            windows.end_s.extend(rows().next_back().map(|row| row.time_s));
            windows.silence.push(rows().map(|row| row.silence).fold(0.0, f32::max));
            self.to_skip = self.config.stride as usize;
        }
        self.skip();
        windows
    }

    fn skip(&mut self) {
        let now = self.to_skip.min(self.waiting.len());
        self.waiting.drain(..now);
        self.to_skip -= now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::read::{ReadOptions, read_candump, read_capture};
    use crate::sample::{self, SampleConfig};
    use crate::silence::score_silence;
    use crate::window::ChunkRule;
    use std::io::Read;
    use std::path::Path;

    fn concat(parts: &[Windows]) -> Windows {
        let graphs: Vec<GraphSet> = parts.iter().map(|part| part.graphs.clone()).collect();
        let mut graphs = GraphSet::concat(&graphs, false).unwrap();
        graphs.captures.truncate(1);
        graphs.capture.fill(0);
        Windows {
            graphs,
            start_s: parts.iter().flat_map(|part| part.start_s.clone()).collect(),
            end_s: parts.iter().flat_map(|part| part.end_s.clone()).collect(),
            silence: parts.iter().flat_map(|part| part.silence.clone()).collect(),
        }
    }

    /// The same capture in one piece and message by message gives the same windows, and those of the other rooms.
    #[test]
    fn windows_do_not_depend_on_the_chunks() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 3, minutes: 0.4 }, dir.path()).unwrap();
        let layout = layout::find(dir.path(), sample::DATASET).unwrap();
        let file = &layout.train[0];
        let vocabulary = Vocabulary::new(0..0x700);
        let silence = SilenceConfig { warm_up_messages: 500 };
        for (stride, chunk_rule) in
            [(100, ChunkRule::Whole), (250, ChunkRule::Original), (30, ChunkRule::Whole)]
        {
            let config = WindowConfig { stride, chunk_rule, ..WindowConfig::default() };
            let stream = |chunk: usize| {
                let mut stream = WindowStream::new(&config, &vocabulary, &silence, &[]).unwrap();
                let mut parts = Vec::new();
                let mut few = Frames::default();
                let report = read_capture(file, &ReadOptions::default(), &mut |frames| {
                    for row in 0..frames.len() {
                        few.push(frames.frame(row));
                        if few.len() == chunk {
                            parts.push(stream.push(&few)?);
                            few.clear();
                        }
                    }
                    Ok(())
                });
                parts.push(stream.push(&few).unwrap());
                parts.push(stream.finish().unwrap());
                (concat(&parts), report.unwrap().rows)
            };
            let (one_by_one, rows) = stream(1);
            assert_eq!(one_by_one, stream(7_777).0);
            assert_eq!(one_by_one.start_s, one_by_one.graphs.start_s);
            assert_eq!(one_by_one.graphs.len() as u64, config.windows(rows));
            let scored = score_silence(file, &config, &ReadOptions::default(), &silence, &[]).unwrap();
            assert_eq!(one_by_one.silence, scored.scores);
            assert!(one_by_one.start_s.iter().zip(&one_by_one.end_s).all(|(start, end)| start < end));
        }
    }

    /// A pipe that gives a line at a time.
    struct Trickle(Vec<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let Some(line) = self.0.pop() else { return Ok(0) };
            into[..line.len()].copy_from_slice(&line);
            Ok(line.len())
        }
    }

    #[test]
    fn a_window_is_there_as_soon_as_its_last_message_has_a_successor() {
        let mut lines: Vec<Vec<u8>> = (0..25u32)
            .map(|i| format!("(1.{:06}) can0 {:03X}#0{}\n", i * 1000, 0x100 + i % 3, i % 10).into_bytes())
            .collect();
        lines.reverse();
        let config = WindowConfig { window: 10, stride: 10, ..WindowConfig::default() };
        let mut stream =
            WindowStream::new(&config, &Vocabulary::new(0x100..0x103), &SilenceConfig::default(), &[])
                .unwrap();
        let (mut seen, mut complete) = (0, Vec::new());
        let options = ReadOptions::default();
        let report = read_candump(Trickle(lines), Path::new("pipe"), &options, &mut |frames| {
            seen += frames.len();
            complete.extend(stream.push(frames)?.end_s.iter().map(|&end_s| (seen, end_s)));
            Ok(())
        });
        assert_eq!(report.unwrap().rows, 25);
        assert_eq!(complete, [(11, 1.009), (21, 1.019)]);
        assert_eq!(stream.finish().unwrap().graphs.len(), 0);
    }

    #[test]
    fn a_capture_shorter_than_a_window_is_one() {
        let config = WindowConfig::default();
        let vocabulary = Vocabulary::new([1, 2]);
        let mut stream = WindowStream::new(&config, &vocabulary, &SilenceConfig::default(), &[]).unwrap();
        let mut frames = Frames::default();
        for row in 0..5u32 {
            let timestamp_s = f64::from(row);
            frames.push(crate::frames::Frame {
                timestamp_s,
                id: 1 + row % 2,
                payload: [0; 8],
                len: 8,
                label: 0,
            });
        }
        assert_eq!(stream.push(&frames).unwrap().graphs.len(), 0);
        let last = stream.finish().unwrap();
        assert_eq!((last.start_s, last.end_s, last.graphs.len()), (vec![0.0], vec![3.0], 1));
    }
}
