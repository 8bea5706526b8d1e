//! Rows of the scripts' packed arguments, little-endian; `lua/README.md` has them.

use crate::limiter::limit::RECORD_HITS_MAX;
use crate::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior};

/// Numbers of a limit in the script's flat array.
pub(super) const LIMIT_VALUES: usize = 5;

/// Bytes of a charge's row, and where its mode is.
const CHARGE_BYTES: usize = 14;
const MODE_AT: usize = 4;
const CONSUME: u8 = 0;
const OWN: u8 = 4;

/// 2^53: a double holds every integer up to here.
const DOUBLE_EXACT_MAX: u64 = 1 << 53;

/// `dHBII`: not after, charges, 1 denied before | 2 never denied, quota limits of the other part, how many of them are over.
pub(super) fn push_request(rows: &mut Vec<u8>, charges: usize, prior: Prior, not_after_us: Micros) {
    let flags = match prior {
        Prior { never_deny: true, .. } => 2,
        Prior { denied: true, .. } => 1,
        _ => 0,
    };
    rows.extend_from_slice(&double(not_after_us));
    rows.extend_from_slice(&number(charges));
    rows.push(flags);
    rows.extend_from_slice(&prior.quota_limits.to_le_bytes());
    rows.extend_from_slice(&prior.quota_over.to_le_bytes());
}

/// Says of a consume whether nothing else of the call has its key.
pub(super) fn set_own(rows: &mut [u8], charge: usize, own: bool) {
    if let Some(mode) = rows.get_mut(charge * CHARGE_BYTES + MODE_AT) {
        *mode = if own { OWN } else { CONSUME };
    }
}

/// `HHBBd`: key, limit, mode, 1 shadow | 2 quota, hits.
pub(super) fn push_charge(rows: &mut Vec<u8>, key: usize, limit: usize, charge: &Charge) {
    // More hits than 2^32 neither fit any limit nor are recorded.
    let (mode, most) = match charge.mode {
        Mode::Consume => (CONSUME, RECORD_HITS_MAX),
        Mode::Record => (1, RECORD_HITS_MAX),
        Mode::Peek => (2, 0),
        Mode::Refund => (3, DOUBLE_EXACT_MAX),
    };
    rows.extend_from_slice(&number(key));
    rows.extend_from_slice(&number(limit));
    rows.push(mode);
    rows.push(u8::from(charge.shadow) | u8::from(charge.quota) << 1);
    rows.extend_from_slice(&double(charge.hits.min(most)));
}

/// `Bdddd`: algorithm, capacity, cost, window, pace.
pub(super) fn push_limit(rows: &mut Vec<u8>, limit: &Limit) {
    let (algorithm, pace) = match limit.algorithm() {
        Algorithm::SlidingWindow => (1, double(limit.tick_us())),
        Algorithm::FixedWindow => (2, double(0)),
        Algorithm::TokenBucket | Algorithm::LocalBucket => (3, limit.drain().to_le_bytes()),
    };
    rows.push(algorithm);
    rows.extend_from_slice(&double(limit.capacity()));
    rows.extend_from_slice(&double(limit.cost()));
    rows.extend_from_slice(&double(limit.window_us()));
    rows.extend_from_slice(&pace);
}

/// The bytes of `d`.
#[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
pub(super) fn double(value: u64) -> [u8; 8] {
    (value.min(DOUBLE_EXACT_MAX) as f64).to_le_bytes()
}

/// The bytes of `H`. The bounds of a call keep every count and index below 2^16.
pub(super) fn number(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes()
}
