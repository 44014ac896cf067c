use super::*;

type Plain = Subjects<(), u32, ()>;

fn key(hook: &str) -> HookKey {
    HookKey { policy: "p".into(), hook: hook.into() }
}

fn queued(point: Point, run: u32) -> Queued<u32> {
    Queued { point, key: key(&run.to_string()), once: true, run }
}

#[test]
fn a_lane_is_there_as_long_as_it_has_runs() {
    let mut subjects = Plain::new(10, 10);
    assert_eq!(subjects.put("c", queued(Point::POST_START, 1)).0, Put::First);
    assert_eq!(subjects.put("c", queued(Point::POST_START, 2)).0, Put::Behind);
    for run in [1, 2] {
        let next = subjects.take("c", ()).unwrap();
        assert_eq!(next.run, run);
        assert!(subjects.is_pending("c", next.point, &next.key));
        subjects.ended("c", next.point, next.key, true, false);
    }
    assert!(subjects.take("c", ()).is_none());
    assert_eq!(subjects.size(), (0, 0), "nothing succeeded, so nothing is remembered");
}

#[test]
fn what_is_queued_is_bounded_and_can_be_taken_out_by_point() {
    let mut subjects = Plain::new(3, 10);
    for (run, point) in [(1, Point::POST_START), (2, Point::PRE_STOP), (3, Point::POST_START)] {
        subjects.put("c", queued(point, run));
    }
    assert_eq!(subjects.put("d", queued(Point::PRE_STOP, 4)).0, Put::Full);
    let taken = subjects.take_queued("c", Some(Point::POST_START));
    assert_eq!(taken.iter().map(|queued| queued.run).collect::<Vec<_>>(), [1, 3]);
    assert!(!subjects.is_pending("c", Point::POST_START, &key("1")));
    assert_eq!(subjects.size(), (1, 1));
    assert_eq!(subjects.put("d", queued(Point::PRE_STOP, 4)).0, Put::First);
}

#[test]
fn a_promise_is_kept_by_the_first_call_that_succeeds_and_broken_by_the_last_that_fails() {
    let mut subjects = Plain::new(10, 10);
    let point = Point::POST_START;
    let promised = |subjects: &mut Plain| {
        subjects.call("c", point);
        subjects.call("c", point);
        subjects.promise("c", point, key("warm"), 1);
    };
    promised(&mut subjects);
    assert!(subjects.called("c", point, false).is_empty(), "the other may still succeed");
    assert_eq!(subjects.called("c", point, true), [(key("warm"), 1)].into());
    promised(&mut subjects);
    assert_eq!(subjects.called("c", point, true).len(), 1);
    assert!(subjects.called("c", point, false).is_empty(), "it was kept");
    promised(&mut subjects);
    assert!(subjects.called("c", point, false).is_empty());
    assert_eq!(subjects.called("c", point, false).len(), 1);
    assert_eq!(subjects.size(), (0, 0));
}

#[test]
fn what_was_left_is_taken_once_and_keeps_its_subject_known() {
    let mut subjects = Plain::new(10, 10);
    subjects.leave("c", Point::PRE_STOP, key("drain"), 7);
    assert!(subjects.is_left("c", Point::PRE_STOP, &key("drain")));
    assert!(subjects.take_waiting("c", Some(Point::POST_START)).is_empty());
    assert_eq!(subjects.take_left("c", Point::PRE_STOP, &key("drain")), Some(7));
    assert_eq!(subjects.take_left("c", Point::PRE_STOP, &key("drain")), None);
    assert_eq!(subjects.size(), (0, 0));
}

#[test]
fn a_subject_is_forgotten_when_it_is_gone_and_everything_has_ended() {
    let mut subjects = Plain::new(10, 10);
    subjects.done("c", Point::PRE_STOP, key("drain"));
    subjects.put("c", queued(Point::POST_START, 1));
    subjects.forget("c");
    assert!(subjects.is_done("c", Point::PRE_STOP, &key("drain")), "a run is queued");
    let next = subjects.take("c", ()).unwrap();
    subjects.ended("c", next.point, next.key, true, true);
    assert!(subjects.take("c", ()).is_none());
    assert_eq!(subjects.size(), (0, 0));
}

#[test]
fn beyond_the_bound_the_one_not_asked_for_the_longest_makes_room() {
    let mut subjects = Plain::new(10, 3);
    for name in ["a", "b", "c"] {
        subjects.done(name, Point::PRE_STOP, key("drain"));
    }
    subjects.put("a", queued(Point::POST_START, 1));
    subjects.done("d", Point::PRE_STOP, key("drain"));
    let known = ["a", "b", "c", "d"].map(|name| subjects.is_done(name, Point::PRE_STOP, &key("drain")));
    assert_eq!(known, [true, false, true, true]);
}
