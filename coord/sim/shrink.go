package sim

import (
	"strings"
	"time"
)

// Shrink looks for a smaller plan under which the same promise is broken, until nothing can be left out or
// the time is over.
func Shrink(o Options, budget time.Duration) Options {
	until := time.Now().Add(budget)
	o.Log = nil
	r := Trial(o)
	if r.Fail == "" {
		return o
	}
	o = r.Options
	kind, _, _ := strings.Cut(r.Fail, ":")
	kind, _, _ = strings.Cut(kind, " ")
	fails := func(p *Plan) bool {
		if time.Now().After(until) {
			return false
		}
		q := o
		q.Plan = p
		x := Trial(q)
		if !strings.HasPrefix(x.Fail, kind) {
			return false
		}
		o = x.Options
		return true
	}
	for again := true; again && time.Now().Before(until); {
		again = false
		// Halves first, then one by one.
		for size := (len(o.Plan.Faults) + 1) / 2; size >= 1; size /= 2 {
			for at := 0; at < len(o.Plan.Faults); {
				p := o.Plan.clone()
				p.Faults = append(p.Faults[:at:at], p.Faults[min(at+size, len(p.Faults)):]...)
				if fails(p) {
					again = true
				} else {
					at += size
				}
			}
		}
		for _, simpler := range []func(p *Plan) bool{
			func(p *Plan) bool { ok := p.Net.Loss > 0; p.Net.Loss = 0; return ok },
			func(p *Plan) bool { ok := p.Net.DelayHi > 1; p.Net.DelayHi = 1; return ok },
			func(p *Plan) bool {
				ok := len(p.Clients) > 1
				p.Clients = p.Clients[:min(1, len(p.Clients))]
				return ok
			},
			func(p *Plan) bool { ok := len(p.Liars) > 0; p.Liars = p.Liars[:max(0, len(p.Liars)-1)]; return ok },
			func(p *Plan) bool {
				end := time.Duration(0)
				for i := range p.Faults {
					end = max(end, p.Faults[i].At+100*time.Millisecond)
				}
				ok := end < p.End-time.Millisecond && end > 0
				p.End = end
				return ok
			},
			func(p *Plan) bool {
				ok := false
				for i := range p.Clients {
					if c := &p.Clients[i]; c.Gap < time.Second {
						c.Gap *= 2
						ok = true
					}
				}
				return ok
			},
		} {
			if p := o.Plan.clone(); simpler(p) && fails(p) {
				again = true
			}
		}
	}
	return o
}
