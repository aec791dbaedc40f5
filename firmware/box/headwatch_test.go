package box

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
)

var (
	ownBox   = coord.BoxID{1}
	quiet    = coord.BoxID{2}
	away     = coord.BoxID{3}
	diligent = coord.BoxID{4}
)

// watched is a site of four boxes as a headWatch sees it, a look each watchEvery.
type watched struct {
	w       headWatch
	now     time.Time
	records int64
	tops    map[coord.BoxID]int64
	view    site.View
}

func newWatched() *watched {
	s := &watched{now: time.Unix(1_800_000_000, 0), tops: map[coord.BoxID]int64{}}
	s.view = site.View{ID: ownBox, Serving: true}
	for _, id := range []coord.BoxID{ownBox, quiet, away, diligent} {
		s.view.Members = append(s.view.Members, site.MemberView{Member: coord.Member{ID: id}, Self: id == ownBox, Up: id != away})
	}
	return s
}

// pass lets time go by and gives what the last look saw and all alarms.
func (s *watched) pass(d time.Duration, each func()) (v *site.AuditView, alarms []headAlarm) {
	for end := s.now.Add(d); !s.now.After(end); s.now = s.now.Add(watchEvery) {
		if each != nil {
			each()
		}
		var a []headAlarm
		v, a = s.w.look(s.now, &seen{s.records, func(id coord.BoxID) audit.Top { return audit.Top{Size: s.tops[id]} }, &s.view})
		alarms = append(alarms, a...)
	}
	return v, alarms
}

func TestABoxThatOrdersNoHeadForItsRecordsRaisesAnAlarm(t *testing.T) {
	s := newWatched()
	s.records, s.tops[ownBox] = 10, 10
	if v, alarms := s.pass(time.Hour, nil); v.HeadAge != 0 || v.Late || len(alarms) > 0 {
		t.Fatalf("a quiet box: %+v %v", v, alarms)
	}
	s.records = 12
	if v, alarms := s.pass(headLate-watchEvery, nil); v.Late || len(alarms) > 0 || v.HeadAge != headLate-watchEvery {
		t.Fatalf("early: %+v %v", v, alarms)
	}
	// More records do not make the oldest younger.
	v, alarms := s.pass(watchEvery, func() { s.records++ })
	if !v.Late || !slices.Equal(alarms, []headAlarm{{ownBox, true}}) {
		t.Fatalf("late: %+v %v", v, alarms)
	}
	if _, alarms := s.pass(time.Hour, nil); len(alarms) > 0 {
		t.Errorf("it is said again and again: %v", alarms)
	}
	s.tops[ownBox] = s.records
	if v, alarms := s.pass(0, nil); v.Late || !slices.Equal(alarms, []headAlarm{{ownBox, false}}) {
		t.Errorf("covered: %+v %v", v, alarms)
	}
}

// A busy box always has records that no head covers yet; that is not late.
func TestABoxThatKeepsWritingAndOrderingIsNotLate(t *testing.T) {
	s := newWatched()
	n := 0
	v, alarms := s.pass(time.Hour, func() {
		s.records += 7
		if n++; n%4 == 0 {
			s.tops[ownBox] = s.records - 3
		}
	})
	if v.HeadAge >= headLate || len(alarms) > 0 {
		t.Errorf("%+v %v", v, alarms)
	}
}

func TestABoxThatIsHereAndOrdersNoHeadIsOverdue(t *testing.T) {
	s := newWatched()
	hour := 0
	orders := func() {
		if h := int(s.now.Sub(time.Unix(1_800_000_000, 0)) / headLife); h != hour {
			hour = h
			s.tops[diligent]++ // an hour's audit.alive
		}
	}
	v, alarms := s.pass(headOverdue, orders)
	if !slices.Equal(v.Overdue, []coord.BoxID{quiet}) || !slices.Equal(alarms, []headAlarm{{quiet, true}}) {
		t.Fatalf("%+v %v", v, alarms)
	}
	s.tops[quiet]++
	if v, alarms := s.pass(0, orders); len(v.Overdue) > 0 || !slices.Equal(alarms, []headAlarm{{quiet, false}}) {
		t.Errorf("it ordered one: %+v %v", v, alarms)
	}
	// Nobody is late on a site that orders nothing.
	s.view.Serving = false
	if v, _ := s.pass(2*headOverdue, nil); len(v.Overdue) > 0 {
		t.Errorf("%+v", v)
	}
}
