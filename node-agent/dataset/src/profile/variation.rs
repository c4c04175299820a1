//! Varied copies of training captures: the same drive, met by an attacker and a car of other habits.
//!
//! Public captures often hold injections of a single kind, such as ids no vehicle sends; a classifier that has seen
//! nothing else looks for nothing else. A copy keeps time and label of the injected messages, gives those of each
//! episode one id of the vehicle, and leaves out a share of them, so that the classifier meets slow injections too.
//! On the benign side slow ids are taken out of the profile, as one not heard in time would be, and messages on
//! [events](super::events) are added.

use oorandom::Rand64;

use super::VehicleProfile;
use super::events::{Events, MIXED_PERIOD_S};
use crate::frames::Frame;

/// So long without an injected message ends an episode, seconds.
const EPISODE_GAP_S: f64 = 0.5;
/// An episode keeps one of so many of its injected messages.
const THINNING: [u64; 5] = [1, 2, 4, 8, 16];
/// Of those, the ones for ids slow enough to have events: an injection as slow as events can not be told from them.
const THINNING_SLOW: usize = 3;
/// Episodes of a long attack are cut after so many seconds: each gives another id.
const EPISODE_MAX_S: f64 = 2.0;
/// Ids slower than this may be taken out of the profile.
const SLOW_S: f64 = 0.4;
const HIDDEN_SHARE: f64 = 0.3;

/// Makes one varied copy.
pub(crate) struct Variation {
    rng: Rand64,
    episode: Option<Episode>,
    events: Option<Events>,
    due: Vec<(u32, Frame)>,
}

struct Episode {
    began_s: f64,
    last_s: f64,
    id: u32,
    dense: u32,
    keep_one_of: u64,
    /// Payloads are those the vehicle sent last, not the injected ones.
    replays: bool,
}

impl Variation {
    pub(crate) fn new(seed: u64, copy: u32) -> Self {
        let rng = Rand64::new(u128::from(seed) << 32 | u128::from(copy));
        Self { rng, episode: None, events: None, due: Vec::new() }
    }

    /// Takes slow ids out of the profile.
    pub(crate) fn hide_slow_ids(&mut self, profile: &mut VehicleProfile) {
        for dense in profile.members.clone() {
            if profile.ids[dense as usize].period_s >= SLOW_S && self.rng.rand_float() < HIDDEN_SHARE {
                profile.forget(dense);
            }
        }
    }

    /// Messages on events before `frame`, in order, as dense ids and messages whose `id` is not yet set.
    pub(crate) fn before(&mut self, frame: &Frame, profile: &VehicleProfile) -> &[(u32, Frame)] {
        self.due.clear();
        let events =
            self.events.get_or_insert_with(|| Events::new(profile, frame.timestamp_s, &mut self.rng));
        events.before(frame.timestamp_s, profile, &mut self.rng, &mut self.due);
        &self.due
    }

    /// The message in its spoofed form; none if the copy leaves it out. `id_of` gives the arbitration id of a number.
    pub(crate) fn rewrite(
        &mut self,
        frame: Frame,
        profile: &VehicleProfile,
        id_of: impl Fn(u32) -> u32,
    ) -> Option<Frame> {
        if frame.label == 0 || profile.members.is_empty() {
            return Some(frame);
        }
        let goes_on = self.episode.as_ref().is_some_and(|episode| {
            frame.timestamp_s - episode.last_s < EPISODE_GAP_S
                && frame.timestamp_s - episode.began_s < EPISODE_MAX_S
        });
        if !goes_on {
            let dense = profile.members[self.rng.rand_range(0..profile.members.len() as u64) as usize];
            let is_slow = profile.ids[dense as usize].period_s >= MIXED_PERIOD_S;
            let choices = if is_slow { THINNING_SLOW } else { THINNING.len() };
            let thinning = self.rng.rand_range(0..choices as u64) as usize;
            self.episode = Some(Episode {
                began_s: frame.timestamp_s,
                last_s: frame.timestamp_s,
                id: id_of(dense),
                dense,
                keep_one_of: THINNING[thinning],
                replays: self.rng.rand_float() < 0.5,
            });
        }
        let episode = self.episode.as_mut()?;
        episode.last_s = frame.timestamp_s;
        if self.rng.rand_range(0..episode.keep_one_of) != 0 {
            return None;
        }
        let target = &profile.ids[episode.dense as usize];
        let payload = if episode.replays { target.last } else { frame.payload };
        Some(Frame { id: episode.id, len: target.len, payload, ..frame })
    }
}
