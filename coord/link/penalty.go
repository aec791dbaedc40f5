package link

import "time"

const (
	// penaltyMin and penaltyMax bound how long a peer is not listened to after a bad frame; it doubles. A
	// frame can be bad only by a fault of the peer's program or by its will: TLS excludes the network.
	penaltyMin = time.Second
	penaltyMax = 30 * time.Second
	// penaltyForget is the good time after which it starts at penaltyMin again.
	penaltyForget = 5 * time.Minute
)

// penalty keeps a peer out for what it sent.
type penalty struct {
	wait  time.Duration
	until time.Time
}

func (p *penalty) add(now time.Time) time.Duration {
	if now.Sub(p.until) > penaltyForget {
		p.wait = 0
	}
	p.wait = min(max(penaltyMin, 2*p.wait), penaltyMax)
	p.until = now.Add(p.wait)
	return p.wait
}

func (p *penalty) holds(now time.Time) bool { return now.Before(p.until) }
