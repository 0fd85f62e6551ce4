//! One run: from a seed to a verdict. Draws who steps next and when the machine dies, and compares in between.

use std::io;
use std::sync::Arc;

use base::{Clock, ManualClock, Rng};
use parking_lot::Mutex;
use storage::files::{Fault, SimFiles};

use crate::disk::Power;
use crate::feeder::Script;
use crate::ledger::{Counted, Ledger};
use crate::machine::{Actor, Machine, Stop, World};
use crate::settings::{Ending, Flaw, Settings};
use crate::topology::{LINES, REPARTITION};
use crate::trace::Trace;

/// Wall clock of the world's beginning: the year 2026.
const BEGINNING_MS: i64 = 1_770_000_000_000;
/// Steps in one life after which a run is stuck.
const STUCK_AFTER: u64 = 200_000;
/// Steps without any work after which time is moved on.
const QUIET_STEPS: u32 = 40;
/// Milliseconds that time is then moved by at most.
const QUIET_MS: u64 = 100;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its settings.
    pub settings: Settings,
    /// Steps taken.
    pub steps: u64,
    /// How often the machine died.
    pub crashes: u32,
    /// The longest time on the simulated clock from switching on to processing.
    pub longest_start_ms: i64,
    /// The last comparison of the counts.
    pub counted: Counted,
    /// Hash of the trace: equal for the same seed.
    pub trace_hash: u64,
    /// The first thing that was wrong.
    pub violation: Option<String>,
    /// The last part of the trace.
    pub last_events: Vec<String>,
}

/// How a life ended.
enum Ended {
    /// All rounds are done, and everything was closed.
    Finished,
    /// The power was cut.
    PowerCut,
    /// The process died.
    Killed,
}

struct Run {
    world: World,
    steps: u64,
    crashes: u32,
    /// When the machine was last switched on.
    began_ms: i64,
    longest_start_ms: i64,
    /// Whether something on the disk was made to fail in this life.
    is_faulty: bool,
    /// Rounds that were begun.
    rounds_begun: usize,
    counted: Counted,
}

/// Runs the system once.
pub fn run(seed: u64, flaw: Flaw, is_verbose: bool) -> Report {
    let mut rng = Rng::from_seed(seed);
    let settings = Settings::draw(&mut rng, flaw);
    let clock = ManualClock::new(BEGINNING_MS);
    let mut trace = Trace::new(is_verbose);
    trace.tell(format_args!("{settings}"));
    let ledger = Ledger::new(trace, LINES, REPARTITION, flaw == Flaw::NoAllowance);
    let shared_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let world = World {
        disk: SimFiles::new(shared_clock),
        ledger: Arc::new(Mutex::new(ledger)),
        script: Script::new(rng.fork(), settings.vocabulary),
        clock,
        settings,
        rng,
    };
    let mut run = Run {
        world,
        steps: 0,
        crashes: 0,
        began_ms: 0,
        longest_start_ms: 0,
        is_faulty: false,
        rounds_begun: 0,
        counted: Counted::default(),
    };
    run.live_and_die();
    let ledger = run.world.ledger.lock();
    Report {
        seed,
        settings: run.world.settings.clone(),
        steps: run.steps,
        crashes: run.crashes,
        longest_start_ms: run.longest_start_ms,
        counted: run.counted,
        trace_hash: ledger.trace.hash(),
        violation: ledger.violation().map(str::to_owned),
        last_events: ledger.trace.last(),
    }
}

impl Run {
    fn tell(&self, event: std::fmt::Arguments<'_>) {
        self.world.ledger.lock().trace.tell(event);
    }

    fn violated(&self, message: String) {
        self.world.ledger.lock().violated(message);
    }

    fn is_violated(&self) -> bool {
        self.world.ledger.lock().violation().is_some()
    }

    /// Life after life, until all is done or something is wrong.
    fn live_and_die(&mut self) {
        loop {
            let ending = self.world.settings.endings.get(self.crashes as usize).copied().unwrap_or(Ending::Never);
            self.tell(format_args!("switched on; {ending:?}"));
            let ended = self.live(ending);
            if self.is_violated() {
                return;
            }
            self.crashes += 1;
            match ended {
                Ended::Finished => {
                    self.crashes -= 1;
                    self.read_again();
                    return;
                }
                Ended::PowerCut => {
                    self.world.disk.crash(&mut self.world.rng);
                    self.tell(format_args!("the power was cut"));
                }
                Ended::Killed => {
                    self.world.disk.kill();
                    self.tell(format_args!("the process was killed"));
                }
            }
        }
    }

    fn live(&mut self, ending: Ending) -> Ended {
        let fuse = if let Ending::AtOperation(operation) = ending { Some(operation) } else { None };
        let power = Power::new(fuse);
        self.began_ms = self.world.clock.now().ticks_ms;
        let begun = self.world.switch_on(Arc::clone(&power));
        if power.is_off() {
            return Ended::PowerCut;
        }
        let mut machine = match begun {
            Ok(machine) => machine,
            Err(stop) => {
                self.violated(stop);
                return Ended::Finished;
            }
        };
        let ended = self.go_on(&mut machine, ending);
        match ended {
            // Nothing that is dropped now reaches the disk.
            Ended::PowerCut | Ended::Killed => power.cut(),
            Ended::Finished => {
                if self.is_violated() {
                    return ended;
                }
                match machine.close() {
                    _ if power.is_off() => return Ended::PowerCut,
                    Err(_) if self.is_faulty => return Ended::PowerCut,
                    Ok(()) => {}
                    Err(stop) => self.violated(stop),
                }
            }
        }
        ended
    }

    /// Steps the machine until it dies or is done.
    fn go_on(&mut self, machine: &mut Machine, ending: Ending) -> Ended {
        self.is_faulty = false;
        let mut is_closing = false;
        let mut is_starting = true;
        let mut quiet = 0;
        for step in 0.. {
            self.steps += 1;
            let now = self.world.clock.now();
            self.world.ledger.lock().trace.at(self.steps, now.ticks_ms);
            match ending {
                Ending::AtStep(at) if step == at => return Ended::PowerCut,
                Ending::Killed(at) if step == at => return Ended::Killed,
                Ending::AfterFault { step: at, .. } if step == at => {
                    self.is_faulty = true;
                    self.break_something();
                }
                Ending::AfterFault { step: at, then } if step == at + 1 + then => return Ended::PowerCut,
                _ => {}
            }
            match self.step(machine) {
                Ok(true) => quiet = 0,
                Ok(false) => quiet += 1,
                Err(_) if machine.power.is_off() || self.is_faulty => {}
                Err(stop) => self.violated(stop),
            }
            if machine.power.is_off() {
                return Ended::PowerCut;
            }
            if self.is_violated() {
                return Ended::Finished;
            }
            if is_starting && machine.is_running() {
                is_starting = false;
                let took_ms = now.ticks_ms - self.began_ms;
                self.tell(format_args!("running after {took_ms} ms"));
                self.longest_start_ms = self.longest_start_ms.max(took_ms);
            }
            if quiet >= QUIET_STEPS {
                quiet = 0;
                self.world.clock.advance_ms(1 + self.world.rng.below(QUIET_MS) as i64);
            }
            if is_closing {
                if machine.is_closed() {
                    return Ended::Finished;
                }
            } else if !self.is_faulty && machine.is_caught_up(&self.world) && !self.begin_round(machine) {
                self.tell(format_args!("closing"));
                machine.begin_close();
                is_closing = true;
            }
            if step > STUCK_AFTER {
                let known = self.world.ledger.lock().is_caught_up();
                self.violated(format!("stuck after {step} steps; all known records processed: {known}"));
                return Ended::Finished;
            }
        }
        Ended::Finished
    }

    /// Compares the counts of the round that is over, if one is, and begins the next; whether there is one.
    fn begin_round(&mut self, machine: &Machine) -> bool {
        match machine.counts() {
            Ok(counts) => self.counted = self.world.ledger.lock().check_counts(&counts),
            Err(stop) => self.violated(stop),
        }
        let Some(lines) = self.world.settings.rounds.get(self.rounds_begun).copied() else { return false };
        self.rounds_begun += 1;
        self.world.script.left = lines;
        self.tell(format_args!("round {}: {lines} lines", self.rounds_begun));
        true
    }

    /// Lets somebody take a step, and time pass.
    fn step(&mut self, machine: &mut Machine) -> Result<bool, Stop> {
        let slow_disk = self.world.settings.slow_disk;
        let rng = &mut self.world.rng;
        let actor = match rng.below(100) {
            0..35 => Actor::App(rng.below(4) as usize),
            35..65 => Actor::Network,
            65..75 if rng.below(slow_disk) == 0 => Actor::Flush,
            65..75 => Actor::Network,
            75..79 => Actor::Timers,
            79 => Actor::Cleaner,
            80..88 => Actor::Feeder,
            88..94 => Actor::Observer,
            _ => {
                let ms = rng.below(self.world.settings.longest_tick_ms + 1);
                self.world.clock.advance_ms(ms as i64);
                return Ok(false);
            }
        };
        let did_work = machine.step(actor, &mut self.world)?;
        let code = match actor {
            Actor::Flush => 0,
            Actor::Timers => 1,
            Actor::Network => 2,
            Actor::Feeder => 3,
            Actor::Observer => 4,
            Actor::Cleaner => 5,
            Actor::App(index) => 6 + index as u8,
        };
        self.world.ledger.lock().trace.note(code, machine.power.operations() * 2 + u64::from(did_work));
        Ok(did_work)
    }

    /// Makes the next write or sync fail.
    fn break_something(&mut self) {
        let rng = &mut self.world.rng;
        let fault = if rng.chance(1, 2) { Fault::Write } else { Fault::Sync };
        let error = if rng.chance(1, 2) { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        self.world.disk.fail_next(fault, "", error);
        self.tell(format_args!("the next {fault:?} fails as {error:?}"));
    }

    /// After a clean shutdown: everything is still there.
    fn read_again(&mut self) {
        self.tell(format_args!("closed; switched on once more"));
        match self.world.switch_on(Power::new(None)) {
            Ok(machine) => {
                if let Err(stop) = machine.close() {
                    self.violated(stop);
                }
            }
            Err(stop) => self.violated(stop),
        }
    }
}
