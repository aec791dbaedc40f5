package metrics

import (
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/prometheus/client_golang/prometheus"
)

// siteCollector turns a View into metrics when somebody asks, so that nothing is counted twice
// and an idle box does no work for its metrics.
type siteCollector struct {
	view    func() *site.View
	ready   func() bool
	scalars []scalar
	member  memberDescs
}

type scalar struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string
	value func(*site.View) float64
}

type memberDescs struct {
	up, height, rtt, suspect, twins, silences, stalls, timeout *prometheus.Desc
	control, bulk, score, aside, overdue                       *prometheus.Desc
}

func newSiteCollector(view func() *site.View, ready func() bool) *siteCollector {
	c := &siteCollector{
		view: view, ready: ready,
		member: memberDescs{
			up:       prometheus.NewDesc("coord_member_up", "1 if the link to the member is up.", []string{"member"}, nil),
			height:   prometheus.NewDesc("coord_member_height", "Height that the member last said.", []string{"member"}, nil),
			rtt:      prometheus.NewDesc("coord_member_round_trip_seconds", "Round trip to the member.", []string{"member"}, nil),
			twins:    prometheus.NewDesc("coord_member_twins_total", "Times that two machines were seen to use the member's identity.", []string{"member"}, nil),
			silences: prometheus.NewDesc("coord_member_silences_total", "Times that the member was silent for longer than coord_failure_detection_seconds.", []string{"member"}, nil),
			stalls:   prometheus.NewDesc("coord_member_stalls_total", "Those of coord_member_silences_total after which it was heard again on the same connection.", []string{"member"}, nil),
			timeout:  prometheus.NewDesc("coord_failure_detection_seconds", "Silence after which the member counts as away; it adapts.", []string{"member"}, nil),
			suspect:  prometheus.NewDesc("coord_member_suspect_total", "Things the member said that did not hold.", []string{"member"}, nil),
			control:  prometheus.NewDesc("coord_member_messages_total", "Messages of the member that are not bulk; a large one counts as several.", []string{"member"}, nil),
			bulk:     prometheus.NewDesc("coord_member_bulk_bytes_total", "Bytes of batches, blocks and states of the member.", []string{"member"}, nil),
			overdue:  prometheus.NewDesc("coord_member_audit_overdue", "1 if the member is here and has ordered no head of its audit log for too long.", []string{"member"}, nil),
			score:    prometheus.NewDesc("coord_suspicion_score", "Points that this box holds against the member, by reason; they halve every 10 minutes.", []string{"member", "reason"}, nil),
			aside:    prometheus.NewDesc("coord_member_set_aside", "1 if the member does not lead because so many suspect it.", []string{"member"}, nil),
		},
	}
	c.counters()
	c.gauges(ready)
	return c
}

func (c *siteCollector) counters() {
	c.add(prometheus.CounterValue, "coord_decisions_total", "Final blocks, by what was in them.", "outcome", map[string]func(*site.View) float64{
		"messages": func(v *site.View) float64 { return float64(v.Counters.Blocks) - float64(v.Counters.EmptyBlocks) },
		"empty":    func(v *site.View) float64 { return float64(v.Counters.EmptyBlocks) },
	})
	c.add(prometheus.CounterValue, "coord_requests_total", "Client requests, by what became of them.", "outcome", map[string]func(*site.View) float64{
		"accepted": func(v *site.View) float64 { return float64(v.Counters.Requests) - float64(v.Counters.Refused) },
		"refused":  func(v *site.View) float64 { return float64(v.Counters.Refused) },
	})
	c.add(prometheus.CounterValue, "coord_network_io_bytes_total", "Bytes between this box and the others.", "direction", map[string]func(*site.View) float64{
		"transmit": func(v *site.View) float64 { return float64(v.Counters.SentBytes) },
		"receive":  func(v *site.View) float64 { return float64(v.Counters.ReceivedBytes) },
	})
	for _, m := range []struct {
		name, help string
		value      func(*site.View) uint64
	}{
		{"coord_messages_applied_total", "Messages that took effect.", func(v *site.View) uint64 { return v.Applied }},
		{"coord_messages_duplicate_total", "Messages dropped because they had taken effect before.", func(v *site.View) uint64 { return v.Duplicates }},
		{"coord_payload_bytes_total", "Bytes of the batches ordered, compressed: what coord_network_io_bytes_total is the cost of.", func(v *site.View) uint64 { return v.Counters.PayloadBytes }},
		{"coord_batches_total", "Batches ordered.", func(v *site.View) uint64 { return v.Counters.Batches }},
		{"coord_own_batches_total", "Batches ordered that this box made.", func(v *site.View) uint64 { return v.Counters.OwnBatches }},
		{"coord_log_bytes_total", "Bytes written to the log.", func(v *site.View) uint64 { return v.Counters.LogBytes }},
		{"coord_log_syncs_total", "fdatasync calls on the log.", func(v *site.View) uint64 { return v.Counters.Syncs }},
		{"coord_peer_messages_sent_total", "Messages to other boxes.", func(v *site.View) uint64 { return v.Counters.SentMessages }},
		{"coord_peer_messages_dropped_total", "Messages to other boxes dropped from full queues.", func(v *site.View) uint64 { return v.Counters.DroppedSends }},
		{"coord_peer_messages_bad_total", "Messages of other boxes that did not hold.", func(v *site.View) uint64 { return v.Counters.BadMessages }},
		{"coord_signatures_made_total", "Votes signed.", func(v *site.View) uint64 { return v.Counters.SignedVotes }},
		{"coord_signatures_verified_total", "Signatures checked.", func(v *site.View) uint64 { return v.Counters.Verified }},
		{"coord_empty_votes_total", "Votes to skip a leader.", func(v *site.View) uint64 { return v.Counters.EmptyVotes }},
		{"coord_leader_changes_total", "Changes of the leader.", func(v *site.View) uint64 { return v.Counters.LeaderChanges }},
		{"coord_evidence_total", "Pairs of votes that prove a member's lie.", func(v *site.View) uint64 { return v.Counters.Evidence }},
		{"coord_conflicting_commits_total", "Two certificates for one height with different blocks: must stay 0.", func(v *site.View) uint64 { return v.Counters.ConflictCommit }},
		{"coord_snapshots_installed_total", "States fetched from other boxes.", func(v *site.View) uint64 { return v.Counters.Snapshots }},
	} {
		c.one(prometheus.CounterValue, m.name, m.help, func(v *site.View) float64 { return float64(m.value(v)) })
	}
	c.one(prometheus.CounterValue, "coord_starved_seconds_total", "Time for which this box was stopped or without a processor.",
		func(v *site.View) float64 { return v.Counters.Starved.Seconds() })
}

func (c *siteCollector) gauges(ready func() bool) {
	for _, m := range []struct {
		name, help string
		value      func(*site.View) float64
	}{
		{"coord_height", "Height that this box has applied.", func(v *site.View) float64 { return float64(v.Height) }},
		{"coord_round", "Round that this box is in.", func(v *site.View) float64 { return float64(v.Round) }},
		{"coord_revision", "Revision of the key-value state.", func(v *site.View) float64 { return float64(v.Revision) }},
		{"coord_checkpoint_height", "Height of the newest state that a quorum signed.", func(v *site.View) float64 { return float64(v.Checkpoint) }},
		{"coord_pending_batches", "Batches known and not yet final.", func(v *site.View) float64 { return float64(v.Pending) }},
		{"coord_inflight_requests", "Requests waiting for their answer.", func(v *site.View) float64 { return float64(v.Inflight) }},
		{"coord_members", "Boxes of the site.", func(v *site.View) float64 { return float64(v.N) }},
		{"coord_quorum", "Boxes that must agree.", func(v *site.View) float64 { return float64(v.Quorum) }},
		{"coord_start_time_seconds", "When the box started, Unix time.", func(v *site.View) float64 { return float64(v.Started.UnixMilli()) / 1e3 }},
		{"coord_ready", "1 if writes are being ordered as far as this box can tell.", func(*site.View) float64 { return yes(ready()) }},
		{"coord_audit_head_age_seconds", "For how long the oldest audit record that no signed head covers has been there; 0: all are covered.", func(v *site.View) float64 {
			if v.Audit == nil {
				return 0
			}
			return v.Audit.HeadAge.Seconds()
		}},
		{"coord_leader", "1 if this box leads.", func(v *site.View) float64 { return yes(v.Leader == v.ID) }},
	} {
		c.one(prometheus.GaugeValue, m.name, m.help, m.value)
	}
}

func (c *siteCollector) one(k prometheus.ValueType, name, help string, value func(*site.View) float64) {
	c.scalars = append(c.scalars, scalar{desc: prometheus.NewDesc(name, help, nil, nil), kind: k, value: value})
}

func (c *siteCollector) add(k prometheus.ValueType, name, help, label string, values map[string]func(*site.View) float64) {
	d := prometheus.NewDesc(name, help, []string{label}, nil)
	for l, v := range values {
		c.scalars = append(c.scalars, scalar{desc: d, kind: k, label: []string{l}, value: v})
	}
}

// Describe implements prometheus.Collector. It does not look at the site, which need not run yet.
func (c *siteCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.scalars {
		ch <- s.desc
	}
	for _, d := range []*prometheus.Desc{c.member.up, c.member.height, c.member.rtt, c.member.suspect, c.member.twins, c.member.silences, c.member.stalls, c.member.timeout, c.member.control, c.member.bulk, c.member.score, c.member.aside, c.member.overdue} {
		ch <- d
	}
}

// Collect implements prometheus.Collector: one View a scrape.
func (c *siteCollector) Collect(ch chan<- prometheus.Metric) {
	v := c.view()
	send := func(d *prometheus.Desc, k prometheus.ValueType, value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(d, k, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(d, err)
		}
		ch <- m
	}
	for _, s := range c.scalars {
		send(s.desc, s.kind, s.value(v), s.label...)
	}
	for i := range v.Members {
		m := &v.Members[i]
		name := m.Label()
		send(c.member.up, prometheus.GaugeValue, yes(m.Up), name)
		send(c.member.overdue, prometheus.GaugeValue, yes(v.Audit != nil && slices.Contains(v.Audit.Overdue, m.ID)), name)
		send(c.member.height, prometheus.GaugeValue, float64(m.Height), name)
		send(c.member.rtt, prometheus.GaugeValue, m.RTT.Seconds(), name)
		send(c.member.suspect, prometheus.CounterValue, float64(m.Suspect), name)
		send(c.member.twins, prometheus.CounterValue, float64(m.Twins), name)
		send(c.member.silences, prometheus.CounterValue, float64(m.Silences), name)
		send(c.member.stalls, prometheus.CounterValue, float64(m.Stalls), name)
		send(c.member.timeout, prometheus.GaugeValue, m.Timeout.Seconds(), name)
	}
	for i := range v.Members {
		m := &v.Members[i]
		send(c.member.control, prometheus.CounterValue, float64(m.Control), m.Label())
		send(c.member.bulk, prometheus.CounterValue, float64(m.Bulk), m.Label())
	}
	for i := range v.Trust {
		t := &v.Trust[i]
		name := nameOf(v, t.Box)
		send(c.member.aside, prometheus.GaugeValue, yes(t.Aside), name)
		for _, g := range t.Why {
			send(c.member.score, prometheus.GaugeValue, g.Points, name, strings.ReplaceAll(g.Reason.String(), " ", "_"))
		}
	}
}

func nameOf(v *site.View, id coord.BoxID) string {
	for i := range v.Members {
		if v.Members[i].ID == id {
			return v.Members[i].Label()
		}
	}
	return id.String()
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
