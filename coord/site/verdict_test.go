package site

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestABoxIsLateOnlyByMoreThanItsLastWordIsOld(t *testing.T) {
	now := time.Unix(1000, 0)
	blocks := []BlockView{{Time: now}, {Time: now.Add(-50 * time.Millisecond)}, {Time: now.Add(-100 * time.Millisecond)}}
	for _, tt := range []struct {
		height uint64
		after  time.Duration // from the last block on
		want   uint64
	}{
		{1000, 0, 0},
		{960, 0, 0},
		{870, 0, 0},
		{840, 0, 160},               // 20 blocks a second: 100 in 5 s
		{930, 10 * time.Second, 70}, // nothing was ordered meanwhile: it had time to say so
		{960, 10 * time.Second, 0},
		{2000, 0, 0},
	} {
		if got := Late(now.Add(tt.after), 1000, blocks, &MemberView{Height: tt.height}); got != tt.want {
			t.Errorf("at %d, %v after the last block, it is late by %d, want %d", tt.height, tt.after, got, tt.want)
		}
	}
}

// The sentence that a person reads first: the worst that holds comes before the rest.
func TestTheVerdict(t *testing.T) {
	for _, tt := range []struct {
		name              string
		n, up, silent     int
		fault             string
		draining, overdue bool
		want              string
	}{
		{name: "all well", n: 4, up: 4, want: "The site works: all 4 boxes are here, any 1 may fail or lie."},
		{name: "one away", n: 4, up: 3, want: "The site works with 3 of 4 boxes; if one more fails it cannot write."},
		{name: "one of seven away", n: 7, up: 6, want: "The site works with 6 of 7 boxes; 1 more may fail."},
		{name: "no quorum", n: 4, up: 2, want: "The site cannot write: this box reaches 2 of 4 boxes, 3 are needed."},
		{name: "no quorum, late", n: 4, up: 2, overdue: true, want: "The site cannot write: this box reaches 2 of 4 boxes, 3 are needed."},
		{name: "leader late", n: 4, up: 4, overdue: true, want: "The site is changing its leader; writes wait."},
		{name: "stopping", n: 4, up: 1, draining: true, overdue: true, want: "This box is stopping."},
		{name: "fault", n: 4, up: 4, draining: true, fault: "no space", want: "This box has stopped voting: no space."},
		{name: "one alone", n: 1, up: 1, want: "The site works; with one box none may lie or fail for good (4 tolerate one)."},
		{name: "three", n: 3, up: 3, want: "The site works; with 3 boxes none may lie or fail for good (4 tolerate one)."},
		{name: "two of three", n: 3, up: 2, want: "The site cannot write: this box reaches 2 of 3 boxes, 3 are needed."},
		{
			name: "a new box in the place of a lost one", n: 4, up: 4, silent: 1,
			want: "The site works: 4 of 4 boxes are here, 1 of them with a log that is not whole and not voting yet; if one more fails it cannot write.",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &View{N: tt.n, F: coord.MaxFaulty(tt.n), Quorum: coord.Quorum(tt.n), Fault: tt.fault, Round: 10}
			for i := range tt.n {
				m := MemberView{Index: i, Up: i < tt.up}
				if i < tt.silent {
					m.VotesFrom = v.Round + 1
				}
				v.Members = append(v.Members, m)
			}
			if got := verdict(v, tt.up, tt.draining, tt.overdue); got != tt.want {
				t.Errorf("%q", got)
			}
		})
	}
}
