//! Transitions kept on the device: state, action, reward. States are rows of the cached training states, so
//! a transition stores the row's number only.

use tch::{Device, Kind, TchError, Tensor};

use super::FusionError;

/// A ring of at most `capacity` transitions; the oldest are written over.
#[derive(Debug)]
pub struct Replay {
    /// Row of the cached states, i64 `[capacity]`.
    state: Tensor,
    /// i64 `[capacity]`.
    action: Tensor,
    /// f32 `[capacity]`.
    reward: Tensor,
    next: i64,
    len: i64,
}

/// Some transitions, `[B]` each.
#[derive(Debug)]
pub struct Transitions {
    pub state: Tensor,
    pub action: Tensor,
    pub reward: Tensor,
}

impl Replay {
    /// # Errors
    /// Whatever libtorch reports, out of memory above all.
    pub fn new(capacity: i64, device: Device) -> Result<Self, FusionError> {
        let capacity = capacity.max(1);
        Ok(Self {
            state: Tensor::f_zeros([capacity], (Kind::Int64, device))?,
            action: Tensor::f_zeros([capacity], (Kind::Int64, device))?,
            reward: Tensor::f_zeros([capacity], (Kind::Float, device))?,
            next: 0,
            len: 0,
        })
    }

    pub fn len(&self) -> i64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> i64 {
        self.state.size()[0]
    }

    /// Appends transitions; of more than fit, the last ones stay.
    pub fn push(&mut self, new: &Transitions) -> Result<(), FusionError> {
        let capacity = self.capacity();
        let mut offset = (new.state.size()[0] - capacity).max(0);
        let end = new.state.size()[0];
        // At most two rounds: up to the end of the ring, and from its start.
        while offset < end {
            let n = (end - offset).min(capacity - self.next);
            let pairs = [(&self.state, &new.state), (&self.action, &new.action), (&self.reward, &new.reward)];
            for (ring, values) in pairs {
                ring.f_narrow(0, self.next, n)?.f_copy_(&values.f_narrow(0, offset, n)?)?;
            }
            offset += n;
            self.next = (self.next + n) % capacity;
            self.len = (self.len + n).min(capacity);
        }
        Ok(())
    }

    /// `batch` transitions drawn with replacement by torch's global generator; call on a non-empty ring.
    pub fn sample(&self, batch: i64) -> Result<Transitions, FusionError> {
        let device = self.state.device();
        let rows = Tensor::f_randint(self.len.max(1), [batch], (Kind::Int64, device))?;
        Ok(Transitions {
            state: self.state.f_index_select(0, &rows)?,
            action: self.action.f_index_select(0, &rows)?,
            reward: self.reward.f_index_select(0, &rows)?,
        })
    }

    /// Everything, by name, for a checkpoint.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        vec![
            ("replay.state".into(), self.state.shallow_clone()),
            ("replay.action".into(), self.action.shallow_clone()),
            ("replay.reward".into(), self.reward.shallow_clone()),
            ("replay.next_len".into(), Tensor::from_slice(&[self.next, self.len])),
        ]
    }

    /// Restores what [`Replay::tensors`] gave; `find` looks a tensor up by name.
    pub fn restore<'t>(
        &mut self,
        find: impl Fn(&str) -> Result<&'t Tensor, FusionError>,
    ) -> Result<(), FusionError> {
        let copy = |name: &str, into: &mut Tensor| -> Result<(), FusionError> {
            let saved = find(name)?;
            if saved.size() != into.size() {
                return Err(FusionError::Resume(format!("`{name}` has {:?} entries", saved.size())));
            }
            Ok(into.f_copy_(saved)?)
        };
        copy("replay.state", &mut self.state)?;
        copy("replay.action", &mut self.action)?;
        copy("replay.reward", &mut self.reward)?;
        let counts: Vec<i64> = Vec::try_from(find("replay.next_len")?)
            .map_err(|e: TchError| FusionError::Resume(e.to_string()))?;
        match counts[..] {
            [next, len] if (0..self.capacity()).contains(&next) && (0..=self.capacity()).contains(&len) => {
                (self.next, self.len) = (next, len);
                Ok(())
            }
            _ => Err(FusionError::Resume("the replay's position lies outside of it".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transitions(range: std::ops::Range<i64>) -> Transitions {
        let state = Tensor::arange_start(range.start, range.end, (Kind::Int64, Device::Cpu));
        Transitions { action: &state * 10, reward: state.to_kind(Kind::Float) * 0.5, state }
    }

    fn content(replay: &Replay) -> Vec<i64> {
        let mut rows: Vec<i64> = Vec::try_from(&replay.state.narrow(0, 0, replay.len())).unwrap();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn the_oldest_are_written_over_across_the_seam() {
        let mut replay = Replay::new(5, Device::Cpu).unwrap();
        replay.push(&transitions(0..3)).unwrap();
        assert_eq!((replay.len(), content(&replay)), (3, vec![0, 1, 2]));
        replay.push(&transitions(3..7)).unwrap();
        assert_eq!(content(&replay), vec![2, 3, 4, 5, 6]);
        replay.push(&transitions(7..20)).unwrap();
        assert_eq!(content(&replay), vec![15, 16, 17, 18, 19]);
    }

    #[test]
    fn a_draw_keeps_the_parts_of_a_transition_together() {
        tch::manual_seed(1);
        let mut replay = Replay::new(8, Device::Cpu).unwrap();
        replay.push(&transitions(0..6)).unwrap();
        let drawn = replay.sample(200).unwrap();
        assert_eq!(drawn.action, &drawn.state * 10);
        assert_eq!(drawn.reward, drawn.state.to_kind(Kind::Float) * 0.5);
        let states: Vec<i64> = Vec::try_from(&drawn.state).unwrap();
        let distinct: std::collections::BTreeSet<i64> = states.into_iter().collect();
        assert_eq!(distinct.into_iter().collect::<Vec<_>>(), vec![0, 1, 2, 3, 4, 5]);
    }
}
