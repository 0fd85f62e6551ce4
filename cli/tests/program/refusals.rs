//! What goes wrong is said in at most three lines, what and what to do, with an exit code that is not 0; nothing is damaged.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use super::support::{
    BINARY, BrokerProcess, command, content, directory, ended, refusal, refusals, shown, succeeds, text,
};

const ANY: &str = "127.0.0.1:0";

/// `millstream broker` on `data`, which it must refuse and leave as it is.
fn broker(data: &Path, arguments: &[&str]) -> String {
    let before = data.is_dir().then(|| content(data));
    let said = refusal(&[&["broker", "--data", text(data)], arguments].concat(), &[(text(data), "DATA")]);
    assert!(before.is_none_or(|before| content(data) == before), "the data directory has changed");
    said
}

/// A directory that a broker has used: a topic, and a clean shutdown.
fn used() -> tempfile::TempDir {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    succeeds(&["topics", "create", "orders", "--partitions", "2", "--bootstrap", &broker.address]);
    broker.stop();
    data
}

fn still_has_its_topic(data: &Path) {
    let broker = BrokerProcess::start(data, &[]);
    assert_eq!(succeeds(&["topics", "list", "--bootstrap", &broker.address]), "orders\n");
    broker.stop();
}

#[test]
fn misspelt_commands_and_options_are_answered_with_the_nearest() {
    let lines: &[&[&str]] = &[
        &["borker"],
        &["--hlp"],
        &["topics", "lst", "--bootstrap", ANY],
        &["broker", "--listn", ANY, "--data", "x"],
        &["broker", "--listn=127.0.0.1:0", "--data", "x"],
        &["dump-log", "--jsn", "x"],
        &["topics", "create", "a", "--partition", "3", "--bootstrap", ANY],
    ];
    assert_snapshot!(refusals(lines, &[]), @r"
    $ millstream borker
    millstream: unknown command borker for `millstream`
      did you mean broker?
    exit 2
    $ millstream --hlp
    millstream: unknown option --hlp for `millstream`
      did you mean --help?
    exit 2
    $ millstream topics lst --bootstrap 127.0.0.1:0
    millstream: unknown command lst for `millstream topics`
      did you mean list?
    exit 2
    $ millstream broker --listn 127.0.0.1:0 --data x
    millstream: unknown option --listn for `millstream broker`
      did you mean --listen?
    exit 2
    $ millstream broker --listn=127.0.0.1:0 --data x
    millstream: unknown option --listn for `millstream broker`
      did you mean --listen?
    exit 2
    $ millstream dump-log --jsn x
    millstream: unknown option --jsn for `millstream dump-log`
      did you mean --json?
    exit 2
    $ millstream topics create a --partition 3 --bootstrap 127.0.0.1:0
    millstream: unknown option --partition for `millstream topics create`
      did you mean --partitions?
    exit 2
    ");
    assert!(!Path::new("x").exists());
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let lines: &[&[&str]] = &[
        &[],
        &["topics"],
        &["broker", "--listen", ANY],
        &["broker", "--listen", ANY, "--data"],
        &["broker", "--listen", ANY, "--data", "x", "y"],
        &["broker", "--listen", ANY, "--data", "x", "--data", "y"],
        &["topics", "create", "--bootstrap", ANY],
        &["topics", "create", "a", "--partitions", "0", "--bootstrap", ANY],
        &["topics", "create", "a", "--partitions", "many", "--bootstrap", ANY],
    ];
    assert_snapshot!(refusals(lines, &[]), @"
    $ millstream
    millstream: `millstream` needs a command: broker, topics, produce, consume, groups, configs, transactions, offsets, delete-records, dump-log, perf, topology, completions
      `millstream --help` explains all of them
    exit 2
    $ millstream topics
    millstream: `millstream topics` needs a command: list, create, describe, alter, delete
      `millstream topics --help` explains all of them
    exit 2
    $ millstream broker --listen 127.0.0.1:0
    millstream: where should the broker keep its data?
      give --data DIR, or --config FILE with log.dirs in it
    exit 2
    $ millstream broker --listen 127.0.0.1:0 --data
    millstream: --data <DIR> needs a value
      `millstream broker --help` explains all of them
    exit 2
    $ millstream broker --listen 127.0.0.1:0 --data x y
    millstream: unknown argument y for `millstream broker`
      `millstream broker --help` explains all of them
    exit 2
    $ millstream broker --listen 127.0.0.1:0 --data x --data y
    millstream: --data <DIR> may be given once only
      `millstream broker --help` explains all of them
    exit 2
    $ millstream topics create --bootstrap 127.0.0.1:0
    millstream: `millstream topics create` lacks <TOPIC>
      `millstream topics create --help` explains all of them
    exit 2
    $ millstream topics create a --partitions 0 --bootstrap 127.0.0.1:0
    millstream: --partitions 0: must be a whole number from 1 on
      `millstream topics create --help` explains all of them
    exit 2
    $ millstream topics create a --partitions many --bootstrap 127.0.0.1:0
    millstream: --partitions many: must be a whole number from 1 on
      `millstream topics create --help` explains all of them
    exit 2
    ");
}

#[test]
fn misspelt_settings_are_answered_with_the_nearest() {
    let data = directory();
    let settings = [
        "num.partition=3",
        "durabilty=process",
        "durability=proces",
        "num.partitions=three",
        "log.retention.ms=-7",
        "num.partitions",
        "log.dirs=/tmp",
        "listeners=PLAINTEXT://127.0.0.1:9092",
    ];
    let said = settings.map(|setting| broker(data.path(), &["--listen", ANY, "--set", setting])).concat();
    assert_snapshot!(said, @r"
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set num.partition=3
    millstream: --set num.partition=3: unknown broker property `num.partition`
      did you mean `num.partitions`?
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set durabilty=process
    millstream: --set durabilty=process: unknown broker property `durabilty`
      did you mean `durability`?
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set durability=proces
    millstream: --set durability=proces: durability=proces is not known
      use `power` (acknowledged records survive a power cut) or `process` (they survive the process only)
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set num.partitions=three
    millstream: --set num.partitions=three: broker property num.partitions=three is not a value of type Int
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set log.retention.ms=-7
    millstream: invalid value -7 for configuration retention.ms: value must be at least -1
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set num.partitions
    millstream: --set num.partitions is not KEY=VALUE
      write it as --set num.partitions=VALUE
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set log.dirs=/tmp
    millstream: --set log.dirs=/tmp: --data says something else
      leave one of the two out, log.dirs or --data
    exit 2
    $ millstream broker --data DATA --listen 127.0.0.1:0 --set listeners=PLAINTEXT://127.0.0.1:9092
    millstream: --set listeners=PLAINTEXT://127.0.0.1:9092: --listen says something else
      leave one of the two out, listeners or --listen
    exit 2
    ");
    assert!(content(data.path()).is_empty());
}

#[test]
fn a_misspelt_setting_of_a_topic_is_answered_with_the_nearest() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    let create = |setting: &str| {
        refusal(
            &["topics", "create", "a", "--set", setting, "--bootstrap", &broker.address],
            &[(&broker.address, "ADDRESS")],
        )
    };
    let said = ["retention.mss=1000", "retention.ms=soon", "cleanup.policy"].map(create).concat();
    assert_snapshot!(said, @r"
    $ millstream topics create a --set retention.mss=1000 --bootstrap ADDRESS
    millstream: creating topic a: INVALID_CONFIG (unknown topic config name retention.mss; the nearest known one is retention.ms)
      correct that --set
    exit 1
    $ millstream topics create a --set retention.ms=soon --bootstrap ADDRESS
    millstream: creating topic a: INVALID_CONFIG (invalid value soon for configuration retention.ms: not a number of type LONG)
      correct that --set
    exit 1
    $ millstream topics create a --set cleanup.policy --bootstrap ADDRESS
    millstream: --set cleanup.policy is not KEY=VALUE
      write it as --set cleanup.policy=VALUE
    exit 2
    ");
    assert_eq!(succeeds(&["topics", "list", "--bootstrap", &broker.address]), "");
}

#[test]
fn addresses_that_are_none_are_refused() {
    let data = directory();
    for listen in ["localhost", "127.0.0.1", ":9092", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:http"] {
        let said = broker(data.path(), &["--listen", listen]);
        let expected =
            format!("millstream: --listen {listen} is not HOST:PORT\n  write it as 127.0.0.1:9092\nexit 2\n");
        assert!(said.ends_with(&expected), "{said}");
    }
    assert_snapshot!(broker(data.path(), &["--listen", ANY, "--advertise", "example"]), @r"
    $ millstream broker --data DATA --listen 127.0.0.1:0 --advertise example
    millstream: --advertise example is not HOST:PORT
      write it as 127.0.0.1:9092
    exit 2
    ");
    assert!(content(data.path()).is_empty());
    assert_snapshot!(refusal(&["topics", "list", "--bootstrap", "nowhere"], &[]), @r"
    $ millstream topics list --bootstrap nowhere
    millstream: --bootstrap nowhere is not HOST:PORT
      write it as 127.0.0.1:9092
    exit 2
    ");
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    // TEST-NET-1: no machine has it.
    let data = used();
    let arguments = ["broker", "--listen", "192.0.2.1:9092", "--data", text(data.path())];
    let said = refusal(&arguments, &[(text(data.path()), "DATA")]);
    assert_snapshot!(said, @r"
    $ millstream broker --listen 192.0.2.1:9092 --data DATA
    millstream: cannot listen on 192.0.2.1:9092: Cannot assign requested address (os error 99)
      name a host and port of this machine, as 127.0.0.1:9092
    exit 1
    ");
}

#[test]
fn a_port_in_use_is_said_and_the_directory_stays_usable() {
    let data = used();
    let other = TcpListener::bind(ANY).unwrap();
    let address = other.local_addr().unwrap().to_string();
    let arguments = ["broker", "--listen", &address, "--data", text(data.path())];
    assert_snapshot!(refusal(&arguments, &[(&address, "ADDRESS"), (text(data.path()), "DATA")]), @r"
    $ millstream broker --listen ADDRESS --data DATA
    millstream: cannot listen on ADDRESS: the port is in use
      stop the program that has it, or name another port
    exit 1
    ");
    still_has_its_topic(data.path());
    let never_made = data.path().join("never-made");
    refusal(&["broker", "--listen", &address, "--data", text(&never_made)], &[]);
    assert!(!never_made.exists());
}

#[test]
fn a_directory_that_another_process_has_is_left_alone() {
    let data = directory();
    let first = BrokerProcess::start(data.path(), &[]);
    succeeds(&["topics", "create", "orders", "--bootstrap", &first.address]);
    // It holds the directory but cannot write meanwhile.
    first.signal(libc::SIGSTOP);
    assert_snapshot!(broker(data.path(), &["--listen", ANY]), @r"
    $ millstream broker --data DATA --listen 127.0.0.1:0
    millstream: data directory DATA is in use by another process
      stop that process, or name another directory
    exit 1
    ");
    first.signal(libc::SIGCONT);
    assert_eq!(succeeds(&["topics", "list", "--bootstrap", &first.address]), "orders\n");
    first.kill();
    // Nobody has to remove what a killed process leaves.
    still_has_its_topic(data.path());
}

#[test]
fn a_directory_that_is_none_or_cannot_be_made_is_refused() {
    let around = directory();
    let file = around.path().join("file");
    fs::write(&file, "not ours").unwrap();
    let said = [broker(&file, &["--listen", ANY]), broker(&file.join("data"), &["--listen", ANY])].concat();
    assert_snapshot!(said, @r"
    $ millstream broker --data DATA --listen 127.0.0.1:0
    millstream: data directory DATA cannot be opened: lock DATA/.lock: Not a directory (os error 20)
      check that it can be made, read and written by this user
    exit 1
    $ millstream broker --data DATA --listen 127.0.0.1:0
    millstream: data directory DATA cannot be opened: look at DATA: Not a directory (os error 20)
      check that it can be made, read and written by this user
    exit 1
    ");
    assert_eq!(fs::read_to_string(file).unwrap(), "not ours");
}

#[test]
fn a_directory_that_may_not_be_read_or_written_is_refused() {
    let around = directory();
    let data = around.path().join("data");
    fs::create_dir(&data).unwrap();
    let binary = around.path().join("millstream");
    // By another process: one forked here while the copy is open would keep it from being run.
    assert!(Command::new("cp").args([BINARY, text(&binary)]).status().unwrap().success());
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(around.path(), 0o755);
    let run = |mode, arguments: &[&str]| {
        allow(&data, mode);
        let mut command = Command::new(&binary);
        command.args(arguments).env("NO_COLOR", "1");
        // SAFETY: asks, changes nothing.
        if unsafe { libc::geteuid() } == 0 {
            // Root may do everything: be nobody.
            command.uid(65_534);
        }
        let said = ended(&mut command);
        allow(&data, 0o755);
        shown(arguments, &said, &[(text(&data), "DATA")])
    };
    let broker = ["broker", "--listen", ANY, "--data", text(&data)];
    assert_snapshot!([run(0o000, &broker), run(0o555, &broker), run(0o000, &["dump-log", text(&data)])].concat(), @r"
    $ millstream broker --listen 127.0.0.1:0 --data DATA
    millstream: data directory DATA cannot be opened: lock DATA/.lock: Permission denied (os error 13)
      check that it can be made, read and written by this user
    exit 1
    $ millstream broker --listen 127.0.0.1:0 --data DATA
    millstream: data directory DATA cannot be opened: lock DATA/.lock: Permission denied (os error 13)
      check that it can be made, read and written by this user
    exit 1
    $ millstream dump-log DATA
    millstream: cannot read DATA: Permission denied (os error 13)
      run it as a user that may read that directory
    exit 1
    ");
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let data = used();
    let arguments = ["broker", "--listen", ANY, "--data", text(data.path()), "--set", "node.id=7"];
    assert_snapshot!(refusal(&arguments, &[(text(data.path()), "DATA")]), @r"
    $ millstream broker --listen 127.0.0.1:0 --data DATA --set node.id=7
    millstream: data directory DATA belongs to node 1, but node.id is 7
      set node.id=1, or name another directory
    exit 1
    ");
    still_has_its_topic(data.path());
}

#[test]
fn damaged_files_of_the_directory_are_named() {
    let said = ["meta.properties", "recovery-point-offset-checkpoint"].map(|name| {
        let data = used();
        fs::write(data.path().join(name), "@@\n@@\n").unwrap();
        broker(data.path(), &["--listen", ANY])
    });
    assert_snapshot!(said.concat(), @r"
    $ millstream broker --data DATA --listen 127.0.0.1:0
    millstream: data directory DATA cannot be used: DATA/meta.properties is malformed
      restore the named file from a copy, or name another directory
    exit 1
    $ millstream broker --data DATA --listen 127.0.0.1:0
    millstream: data directory DATA cannot be used: DATA/recovery-point-offset-checkpoint is malformed
      restore the named file from a copy, or name another directory
    exit 1
    ");
}

#[test]
fn a_folder_that_is_no_log_cannot_be_dumped() {
    let around = directory();
    let dump = |path: &Path| refusal(&["dump-log", "--json", text(path)], &[(text(around.path()), "AROUND")]);
    let file = around.path().join("file");
    fs::write(&file, "not ours").unwrap();
    let said = [dump(around.path()), dump(&around.path().join("missing")), dump(&file)].concat();
    assert_snapshot!(said, @r"
    $ millstream dump-log --json AROUND
    millstream: AROUND holds no log
      name a data directory, the folder of one partition such as orders-0, or one of its files
    exit 1
    $ millstream dump-log --json AROUND/missing
    millstream: cannot read AROUND/missing: No such file or directory (os error 2)
      name a data directory, the folder of one partition such as orders-0, or one of its files
    exit 1
    $ millstream dump-log --json AROUND/file
    millstream: cannot read AROUND/file: Not a directory (os error 20)
      name a data directory, the folder of one partition such as orders-0, or one of its files
    exit 1
    ");
}

#[test]
fn no_broker_at_the_address_is_said_within_seconds() {
    // A port that was free a moment ago.
    let held = TcpListener::bind(ANY).unwrap();
    let address = held.local_addr().unwrap().to_string();
    drop(held);
    let said = [["topics", "list"], ["groups", "list"]].map(|arguments| {
        without_times(&refusal(&[&arguments[..], &["--bootstrap", &address]].concat(), &[(&address, "ADDRESS")]))
    });
    assert_snapshot!(said.concat(), @r"
    $ millstream topics list --bootstrap ADDRESS
    millstream: no broker at ADDRESS: Connection refused (os error 111) (tried for N ms); is it running, and is the address right?
      start one with `millstream broker`, or correct --bootstrap HOST:PORT
    exit 1
    $ millstream groups list --bootstrap ADDRESS
    millstream: no broker at ADDRESS: Connection refused (os error 111) (tried for N ms); is it running, and is the address right?
      start one with `millstream broker`, or correct --bootstrap HOST:PORT
    exit 1
    ");
}

/// `tried for 2994 ms` varies.
fn without_times(text: &str) -> String {
    let (before, after) = text.split_once("tried for ").unwrap();
    let (_, after) = after.split_once(' ').unwrap();
    format!("{before}tried for N {after}")
}

#[test]
fn what_a_cluster_refuses_is_explained() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    let ask = |arguments: &[&str]| {
        refusal(&[arguments, &["--bootstrap", &broker.address]].concat(), &[(&broker.address, "ADDRESS")])
    };
    succeeds(&["topics", "create", "orders", "--bootstrap", &broker.address]);
    let said = [
        ask(&["topics", "describe", "order"]),
        ask(&["topics", "delete", "order"]),
        ask(&["groups", "describe", "nobody"]),
        ask(&["topics", "create", "orders"]),
        ask(&["topics", "create", "no topic's name"]),
        ask(&["topics", "create", "copied", "--replication-factor", "3"]),
    ];
    assert_snapshot!(said.concat(), @r"
    $ millstream topics describe order --bootstrap ADDRESS
    millstream: there is no topic order
      `millstream topics list` shows those that there are
    exit 1
    $ millstream topics delete order --bootstrap ADDRESS
    millstream: there is no topic order
      `millstream topics list` shows those that there are
    exit 1
    $ millstream groups describe nobody --bootstrap ADDRESS
    millstream: there is no group nobody
      `millstream groups list` shows those that there are
    exit 1
    $ millstream topics create orders --bootstrap ADDRESS
    millstream: creating topic orders: TOPIC_ALREADY_EXISTS (Topic 'orders' already exists.)
      `millstream topics describe` shows it
    exit 1
    $ millstream topics create no topic's name --bootstrap ADDRESS
    millstream: creating topic no topic's name: INVALID_TOPIC_EXCEPTION (Topic name is invalid: 'no topic's name' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-')
      name it otherwise
    exit 1
    $ millstream topics create copied --replication-factor 3 --bootstrap ADDRESS
    millstream: creating topic copied: INVALID_REPLICATION_FACTOR (Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered.)
      leave --replication-factor out
    exit 1
    ");
}

#[test]
fn events_are_not_coloured_where_nobody_sees_colours() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    succeeds(&["topics", "create", "orders", "--bootstrap", &broker.address]);
    broker.kill();
    let mut command = command(&["broker", "--listen", "192.0.2.1:9092", "--data", text(data.path())]);
    let said = ended(command.env("MILLSTREAM_LOG", "debug").env_remove("NO_COLOR"));
    assert!(!said.stderr.contains('\u{1b}'), "{}", said.stderr);
}
