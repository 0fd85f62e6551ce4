//! One life of the machine: broker, network and everyone who uses them, from being switched on to being cut off.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::{Clock, ManualClock, Now, Rng, TopicPartition};
use broker::{Broker, BrokerConfig, BrokerSeams};
use client::admin::NewTopic;
use client::{Admin, Client, ClientConfig, ClientError, ClientSeams};
use parking_lot::Mutex;
use protocol::api::ErrorCode;
use storage::files::SimFiles;

use crate::application::App;
use crate::disk::{Power, PoweredFiles};
use crate::feeder::{Feeder, Script};
use crate::ledger::Ledger;
use crate::network::Network;
use crate::observer::Observer;
use crate::settings::{Flaw, Settings};
use crate::topology::{APPLICATION, COUNTS, LINES};

/// Rounds of everything after which starting is given up.
const STARTING_ROUNDS: u32 = 20_000;

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The broker's flusher.
    Flush,
    /// The broker's timers.
    Timers,
    /// The broker's cleaner.
    Cleaner,
    /// The network.
    Network,
    /// The application, or one of its threads.
    App(usize),
    /// The producer of lines.
    Feeder,
    /// The consumer of everything.
    Observer,
}

/// The world that outlives the machine.
pub struct World {
    /// Settings of the run.
    pub settings: Settings,
    /// Time.
    pub clock: Arc<ManualClock>,
    /// The disk.
    pub disk: SimFiles,
    /// The model.
    pub ledger: Arc<Mutex<Ledger>>,
    /// What is fed.
    pub script: Script,
    /// Randomness of the schedule.
    pub rng: Rng,
}

/// The machine, while it is on.
pub struct Machine {
    broker: Broker,
    network: Arc<Network>,
    observer: Observer,
    feeder: Feeder,
    app: App,
    /// Its power.
    pub power: Arc<Power>,
}

/// Why the machine cannot go on. While the power is on and the disk is whole, that is a violation.
pub type Stop = String;

fn client(network: &Arc<Network>, clock: &Arc<ManualClock>, rng: &mut Rng) -> Client {
    let network = Arc::clone(network);
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let seams = ClientSeams::stepped(clock, rng.fork());
    Client::embedded_with(move || network.connect(), ClientConfig::default(), seams)
}

impl World {
    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Switches the machine on: opens the broker, reads everything and compares it with what was promised, creates the topics, begins to
    /// start the application.
    ///
    /// # Errors
    /// Something failed; mostly since the power did.
    pub fn switch_on(&mut self, power: Arc<Power>) -> Result<Machine, Stop> {
        let files = PoweredFiles::new(self.disk.clone(), Arc::clone(&power));
        let durability = if self.settings.flaw == Flaw::DurabilityOfProcess { "process" } else { "power" };
        let config = BrokerConfig::embedded("/data/broker")
            .with("durability", durability)
            .map_err(|error| format!("configuring the broker: {error}"))?;
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let seams = BrokerSeams { clock, rng: self.rng.fork(), files: files.clone(), connector: None };
        let broker = Broker::open(config, seams).map_err(|error| format!("opening the broker: {error}"))?;
        let network = Network::new(self.settings.network, broker.clone(), Arc::clone(&self.ledger));
        let mut observer =
            Observer::new(client(&network, &self.clock, &mut self.rng), broker.clone(), Arc::clone(&self.ledger))
                .map_err(|error| format!("the observer: {error}"))?;
        let operator = Admin::new(client(&network, &self.clock, &mut self.rng));
        self.inspect(&broker, &network, &mut observer, &operator)?;
        self.create_topics(&broker, &network, &operator)?;
        let largest_batch_bytes = self.settings.largest_batch_bytes();
        let feeder = Feeder::new(client(&network, &self.clock, &mut self.rng), largest_batch_bytes, &mut self.rng)
            .map_err(|error| format!("the feeder: {error}"))?;
        let client = client(&network, &self.clock, &mut self.rng);
        let app = App::new(&self.settings, client, files, &self.ledger)
            .map_err(|error| format!("starting the application: {error}"))?;
        Ok(Machine { broker, network, observer, feeder, app, power })
    }

    /// Everything that was promised must be there.
    fn inspect(
        &mut self,
        broker: &Broker,
        network: &Arc<Network>,
        observer: &mut Observer,
        operator: &Admin,
    ) -> Result<(), Stop> {
        self.ledger.lock().topics_found(&observer.topics());
        for round in 0.. {
            self.pump(broker, network);
            let did_work =
                observer.step(self.now(), Waker::noop()).map_err(|error| format!("the observer: {error}"))?;
            if !did_work && observer.is_at_end() {
                break;
            }
            give_up_after(round, "reading what the topics hold")?;
        }
        observer.tell_ends();
        let operator_of = operator.clone();
        let listing = async move { operator_of.list_group_offsets(APPLICATION).await };
        let found: BTreeMap<TopicPartition, i64> = self
            .wait_for(broker, network, operator.client(), "listing the committed offsets", listing)?
            .into_iter()
            .map(|(partition, committed)| (partition, committed.offset))
            .collect();
        self.ledger.lock().recovered(&found);
        Ok(())
    }

    fn create_topics(&mut self, broker: &Broker, network: &Arc<Network>, operator: &Admin) -> Result<(), Stop> {
        let segment_bytes = self.settings.segment_bytes.to_string();
        let topic = |name: &str, partitions: i32| {
            NewTopic::new(name, partitions).config("internal.segment.bytes", segment_bytes.as_str())
        };
        let new = [topic(LINES, self.settings.input_partitions), topic(COUNTS, self.settings.output_partitions)];
        let operator_of = operator.clone();
        let creating = async move { operator_of.create_topics(&new).await };
        for (name, created) in self.wait_for(broker, network, operator.client(), "creating the topics", creating)? {
            match created {
                Ok(_) => self.ledger.lock().topic_created(&name),
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                Err(error) => return Err(format!("creating topic {name}: {error}")),
            }
        }
        Ok(())
    }

    /// A step of the broker and the network.
    fn pump(&mut self, broker: &Broker, network: &Arc<Network>) {
        network.step(&mut self.rng);
        broker.step(self.clock.now());
        self.clock.advance_ms(i64::from(self.rng.chance(1, 4)));
    }

    /// Steps until `future` is ready.
    fn wait_for<T>(
        &mut self,
        broker: &Broker,
        network: &Arc<Network>,
        client: &Client,
        what: &str,
        future: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Stop> {
        let mut future = std::pin::pin!(future);
        for round in 0.. {
            self.pump(broker, network);
            client.step(self.now(), Waker::noop());
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return result.map_err(|error| format!("{what}: {error}"));
            }
            give_up_after(round, what)?;
        }
        Err(format!("{what}: never ready"))
    }
}

fn give_up_after(round: u32, what: &str) -> Result<(), Stop> {
    if round < STARTING_ROUNDS { Ok(()) } else { Err(format!("{what} comes to no end")) }
}

impl Machine {
    /// Lets `actor` take a step; whether it did anything.
    ///
    /// # Errors
    /// It failed for good.
    pub fn step(&mut self, actor: Actor, world: &mut World) -> Result<bool, Stop> {
        let (now, waker) = (world.now(), Waker::noop());
        match actor {
            Actor::Flush => Ok(self.broker.flush()),
            Actor::Timers => Ok(self.broker.step_timers(now).did_work),
            Actor::Cleaner => Ok(self.broker.step_cleaner(now).did_work),
            Actor::Network => Ok(self.network.step(&mut world.rng)),
            Actor::App(index) => {
                self.app.step(index, now, waker).map_err(|error| format!("the application failed: {error}"))
            }
            Actor::Feeder => self
                .feeder
                .step(&mut world.script, now, waker)
                .map_err(|error| format!("a line could not be written: {error}")),
            Actor::Observer => self.observer.step(now, waker).map_err(|error| format!("the observer: {error}")),
        }
    }

    /// Whether the application runs and all lines are sent, processed, committed and seen.
    pub fn is_caught_up(&self, world: &World) -> bool {
        world.script.left == 0
            && self.feeder.is_idle()
            && self.app.is_running()
            && world.ledger.lock().is_caught_up()
            && self.observer.is_at_end()
            && self.observer.has_read_all_known()
    }

    /// Whether the application processes.
    pub fn is_running(&self) -> bool {
        self.app.is_running()
    }

    /// What the stores count.
    ///
    /// # Errors
    /// A store cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<String, i64>, Stop> {
        self.app.counts().map_err(|error| format!("reading the stores: {error}"))
    }

    /// Asks the application for a clean close.
    pub fn begin_close(&mut self) {
        self.app.begin_close();
    }

    /// Whether the application has closed.
    pub fn is_closed(&self) -> bool {
        self.app.is_closed()
    }

    /// Closes the broker.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn close(self) -> Result<(), Stop> {
        self.broker.close().map_err(|error| format!("closing the broker: {error}"))
    }
}
