//! Ranks that are processes, on one machine or on many, which MPI started.

use mpi::environment::Universe;
use mpi::point_to_point::send_receive_into;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use mpi::{Rank, Threading};

use super::Ranks;

/// MPI, from its start to its end.
pub struct Mpi(Universe);

impl Mpi {
    /// Starts it: the first thing that the process does with it. `None` if it runs already, or if the library cannot be
    /// called from the thread that trains.
    pub fn start() -> Option<Self> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)?;
        (threading >= Threading::Serialized).then_some(Mpi(universe))
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.0.world().rank() as usize
    }

    /// Ends all processes with an exit code.
    pub fn abort(&self, code: u8) -> ! {
        self.0.world().abort(code.into())
    }
}

/// All processes of the run. It belongs to the thread that made it.
pub struct Processes(SimpleCommunicator);

impl Processes {
    /// While MPI runs.
    pub fn of(_: &Mpi) -> Self {
        Processes(SimpleCommunicator::world())
    }
}

impl Ranks for Processes {
    fn rank(&self) -> usize {
        self.0.rank() as usize
    }

    fn size(&self) -> usize {
        self.0.size() as usize
    }

    fn exchange(&self, partner: usize, send: &[f32], receive: &mut [f32]) {
        let partner = self.0.process_at_rank(partner as Rank);
        send_receive_into(send, &partner, receive, &partner);
    }

    fn gather(&self, mine: &[u64], all: &mut [u64]) {
        self.0.all_gather_into(mine, all);
    }
}
