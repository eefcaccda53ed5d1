//! Shows blobs on their way to and from registries: a group for each that moves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_image::transfer::{Direction, Spared, Transfer, Watcher};

use super::{End, Group, Progress, Title};
use crate::human;

/// How much has to have moved for it to be shown.
const STRIDE: u64 = 1 << 20;

/// Watches blobs for a display.
pub(crate) struct Transfers {
    progress: Progress,
    moving: Mutex<HashMap<Transfer, Moving>>,
}

/// A blob that moves.
#[derive(Clone, Copy)]
struct Moving {
    group: Group,
    shown: u64,
}

impl Transfers {
    /// A watcher that shows what it sees.
    pub(crate) fn new(progress: &Progress) -> Self {
        Self { progress: progress.clone(), moving: Mutex::default() }
    }

    fn moving(&self) -> MutexGuard<'_, HashMap<Transfer, Moving>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn title(transfer: &Transfer) -> Title {
    let verb = match transfer.direction {
        Direction::Pull => "pulling",
        Direction::Push => "pushing",
    };
    Title::new(format!("{verb} {} {}", transfer.digest.short(), human::size(transfer.size)))
}

impl Watcher for Transfers {
    fn spared(&self, transfer: &Transfer, why: &Spared) {
        let group = self.progress.start(&title(transfer));
        let note = match why {
            Spared::There => "already there".to_owned(),
            Spared::Mounted(from) => format!("mounted from {from}"),
        };
        self.progress.note(group, &note);
        self.progress.end(group, &End::Done);
    }

    fn started(&self, transfer: &Transfer) {
        let group = self.progress.start(&title(transfer));
        self.moving().insert(*transfer, Moving { group, shown: 0 });
    }

    fn moved(&self, transfer: &Transfer, bytes: u64) {
        let mut all = self.moving();
        let Some(moving) = all.get_mut(transfer) else { return };
        if bytes.abs_diff(moving.shown) < STRIDE && bytes != transfer.size {
            return;
        }
        moving.shown = bytes;
        let group = moving.group;
        drop(all);
        self.progress.advance(group, bytes, transfer.size);
    }

    fn ended(&self, transfer: &Transfer, arrived: bool) {
        let Some(moving) = self.moving().remove(transfer) else { return };
        // Why it failed is said where the whole fails.
        let end = if arrived { End::Done } else { End::Cancelled };
        self.progress.end(moving.group, &end);
    }
}
