//! From a record along its episode.

use super::draw::Picked;
use super::{Returns, Sequences, Unit};
use crate::snapshot::{At, Snapshot};
use crate::writer::Step;

/// The record with what is drawn together with it, if it can be drawn.
#[inline]
pub(super) fn pick(snapshot: &Snapshot<'_>, at: At, unit: Unit) -> Option<Picked> {
    let alone = Picked::alone(at);
    if snapshot.step(at) == Step::Final {
        return None;
    }
    match unit {
        Unit::Record => Some(alone),
        Unit::Returns(returns) => walk(snapshot, at, returns),
        Unit::Sequences(Sequences { len, pad }) => {
            let (mut steps, mut last) = (1, at);
            while steps < len {
                match following(snapshot, last) {
                    Some(next) => (steps, last) = (steps + 1, next),
                    None => break,
                }
            }
            (pad || steps == len).then_some(Picked { steps: steps as u32, ..alone })
        }
    }
}

/// The next step of the episode.
pub(super) fn following(snapshot: &Snapshot<'_>, at: At) -> Option<At> {
    let ended = matches!(snapshot.step(at), Step::Terminated | Step::Truncated);
    if ended { None } else { snapshot.successor(at).filter(|&next| snapshot.step(next) != Step::Final) }
}

fn walk(snapshot: &Snapshot<'_>, at: At, Returns { n, gamma, reward }: Returns) -> Option<Picked> {
    let mut picked = Picked { at, steps: 0, value: 0.0, discount: 1.0, next: None };
    let mut now = at;
    for _ in 0..n {
        let step = snapshot.step(now);
        let next = if step == Step::Terminated { None } else { snapshot.successor(now) };
        if next.is_none() && step != Step::Terminated {
            // The observation after this step is not known: the return is continued by the one before it.
            break;
        }
        let bytes = snapshot.stored(reward, now);
        picked.value += picked.discount * f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        picked.discount *= gamma;
        picked.steps += 1;
        picked.next = next;
        match next {
            None => picked.discount = 0.0,
            Some(next) if step == Step::Continues => {
                now = next;
                continue;
            }
            Some(_) => {}
        }
        break;
    }
    (picked.steps > 0).then_some(picked)
}
