package alarms

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

// Annotations that rules of ours have.
const (
	annotationSummary     = "summary"
	annotationDescription = "description" // what it means
	annotationAction      = "action"      // what to do
	annotationConsole     = "console"     // the console's page
)

const (
	// evaluateTimeMax bounds one round of all rules.
	evaluateTimeMax = 10 * time.Second
	// saveEvery is how often the file is written at most.
	saveEvery = time.Second
	// batchMax bounds the notices of one request.
	batchMax = 64
)

// Config of New; what is not marked optional is required.
type Config struct {
	// Rules are evaluated every Every.
	Rules []*Rule
	Every time.Duration
	// Query answers an expression from the box's history, now.
	Query func(ctx context.Context, expr string) ([]Sample, error)
	// View is the site as the box sees it.
	View func() *site.View
	// Site and Box are the names in labels; Console is where the box's console is, for links.
	Site, Box, Console string
	Targets            []Target
	// Repeat is after how long receivers are told again of an alarm that goes on; 0: never.
	Repeat time.Duration
	// Dir is where alarms.json is.
	Dir    string
	Random io.Reader
	Logger *slog.Logger
}

// Service is a box's alarms at work.
type Service struct {
	c     Config
	worst atomic.Value // string

	mu       sync.Mutex
	engine   *Engine
	silences Silences
	boxes    []*post
	speaking bool
	asked    time.Time     // the last evaluation
	changed  chan struct{} // tells the saver; capacity 1
	unsaved  error         // why the last save failed
}

// post is a receiver with what waits for it.
type post struct {
	target Target
	to     receiver
	outbox Outbox
	heard  heard         // of Alertmanager; nil: the box that speaks for the site tells it
	wake   chan struct{} // capacity 1
	limit  bucket
	// The rest is shown.
	sent, failed uint64
	failures     int // in a row
	last         time.Time
	err          string
}

// limits of receivers: burst and period. ntfy.sh takes 60 messages at once and one each 5 s.
func limitOf(kind string) (b bucket, batch int) {
	switch kind {
	case "ntfy":
		return bucket{burst: 30, period: 5 * time.Second}, 1
	case "syslog":
		return bucket{burst: 10, period: time.Second}, batchMax
	}
	return bucket{burst: 10, period: 2 * time.Second}, batchMax
}

// New makes a box's alarms and reads what they were when the box stopped. Nothing is evaluated before Run. Errors: ErrRules, ErrReceiver.
func New(c Config) (*Service, error) { return newService(c, (*Target).open) }

// newService makes a service with receivers that open gives.
func newService(c Config, open func(*Target) (receiver, error)) (*Service, error) {
	s := &Service{c: c, changed: make(chan struct{}, 1)}
	s.worst.Store("")
	var err error
	if s.engine, err = NewEngine(c.Rules, c.Site, c.Box); err != nil {
		return nil, err
	}
	for i := range c.Targets {
		t := c.Targets[i]
		to, err := open(&t)
		if err != nil {
			return nil, err
		}
		p := &post{target: t, to: to, wake: make(chan struct{}, 1)}
		p.limit, _ = limitOf(t.Kind)
		if t.Kind == kindAlertmanager {
			p.heard = heard{}
		}
		s.boxes = append(s.boxes, p)
	}
	k, err := loadKept(c.Dir)
	if err != nil {
		c.Logger.Error("alarms of before", "err", err)
	}
	s.engine.Restore(k.Alerts, k.Saved, time.Now())
	s.silences.list = k.Silences
	for _, p := range s.boxes {
		p.outbox.restore(k.Outboxes[p.target.id()])
	}
	return s, nil
}

// Run evaluates and tells until ctx ends, and keeps what is left for the next start.
func (s *Service) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	for _, p := range s.boxes {
		parts.Go(func() { s.deliver(ctx, p) })
	}
	parts.Go(func() { s.keep(ctx) })
	tick := time.NewTicker(s.c.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.evaluate(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	parts.Wait()
	s.saveNow()
	return nil
}

// evaluate asks all rules once and hands out what is to be told.
func (s *Service) evaluate(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, evaluateTimeMax)
	defer cancel()
	now := time.Now()
	type answer struct {
		samples []Sample
		err     error
	}
	answers := make([]answer, len(s.c.Rules))
	for i, r := range s.c.Rules {
		answers[i].samples, answers[i].err = s.c.Query(limit, r.Expr)
	}
	if ctx.Err() != nil {
		return
	}
	speaking := Speaks(s.c.View())
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.summary()
	for i, r := range s.c.Rules {
		s.engine.Evaluate(r, answers[i].samples, answers[i].err, now)
	}
	s.asked, s.speaking = now, speaking
	s.tell(now)
	if s.silences.Prune(now) || s.summary() != before {
		s.touch()
	}
}

// summary changes when something of the alarms does that has to be kept.
func (s *Service) summary() string {
	var text strings.Builder
	for _, a := range s.engine.Alerts() {
		text.WriteString(fmt.Sprint(a.Rule, a.Fingerprint, a.State, a.Since.UnixNano(), a.Away.UnixNano(), a.Told.UnixNano(), a.Owed.UnixNano(), ";"))
	}
	return text.String()
}

// tell puts what is due into the outboxes; mu is held.
func (s *Service) tell(now time.Time) {
	list := s.engine.Alerts()
	silent := func(a *Alert) bool { return s.silences.Of(a.Labels, now) != nil }
	s.worst.Store(worst(list, silent))
	for _, n := range due(list, silent, s.speaking, s.c.Repeat, now) {
		s.link(n.Alert)
		s.log(&n)
		for _, p := range s.boxes {
			if p.heard == nil {
				p.put(n)
			}
		}
	}
	for _, p := range s.boxes {
		if p.heard == nil {
			continue
		}
		for _, n := range p.heard.news(list, silent, len(p.outbox.list) == 0, now) {
			s.link(n.Alert)
			p.put(n)
		}
	}
}

// link makes the console's page of an alarm an address.
func (s *Service) link(a *Alert) {
	if page := a.Annotations[annotationConsole]; len(page) > 0 && page[0] == '/' && s.c.Console != "" {
		a.Annotations[annotationConsole] = s.c.Console + page
	}
}

func (s *Service) log(n *Notice) {
	level := map[string]slog.Level{Critical: slog.LevelError, Warning: slog.LevelWarn}[n.Alert.Severity()]
	if n.Status == Resolved {
		level = slog.LevelInfo
	}
	s.c.Logger.Log(context.Background(), level, "alarm", "state", n.Status, "name", n.Alert.Labels[LabelName], "summary", n.Alert.Annotations[annotationSummary])
}

// touch has the state be kept soon; mu is held.
func (s *Service) touch() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Service) keep(ctx context.Context) {
	for {
		select {
		case <-s.changed:
			s.saveNow()
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(saveEvery):
		case <-ctx.Done():
			return
		}
	}
}

// saveNow writes the file. While it cannot be written (the disk is full) alarms go on from memory.
func (s *Service) saveNow() {
	s.mu.Lock()
	k := &kept{Version: keepVersion, Saved: time.Now(), Alerts: s.engine.Alerts(), Silences: s.silences.list, Outboxes: map[string][]Notice{}}
	for _, p := range s.boxes {
		k.Outboxes[p.target.id()] = p.outbox.list
	}
	data, err := json.Marshal(k)
	s.mu.Unlock()
	if err == nil {
		err = save(s.c.Dir, data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.unsaved == nil {
		s.c.Logger.Error("alarms are not kept over a restart", "err", err)
	}
	s.unsaved = err
}

// deliver brings what waits to a receiver until ctx ends.
func (s *Service) deliver(ctx context.Context, p *post) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	_, batch := limitOf(p.target.Kind)
	wait := func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		s.mu.Lock()
		list := p.outbox.Next(batch, time.Now())
		s.mu.Unlock()
		if len(list) == 0 {
			select {
			case <-p.wake:
			case <-ctx.Done():
			}
			continue
		}
		if d := p.limit.wait(time.Now()); d > 0 {
			wait(d)
		}
		if ctx.Err() != nil {
			return
		}
		err := p.to.send(ctx, list)
		if ctx.Err() != nil && err != nil {
			return // it waits for the next start
		}
		if d := s.delivered(p, list, err, random); d > 0 {
			wait(d)
		}
	}
}

// delivered notes what became of a try, and gives how long to wait before the next.
func (s *Service) delivered(p *post, list []Notice, err error, random *rand.Rand) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.touch()
	p.last = time.Now()
	refused := errors.Is(err, errRefused)
	if err == nil || refused {
		p.outbox.Done(list)
	}
	if err == nil {
		if p.failures > 0 {
			s.c.Logger.Info("alarms are received again", "receiver", p.target.shown())
		}
		p.sent += uint64(len(list))
		p.failures, p.err = 0, ""
		return 0
	}
	if p.failures++; p.failures == 1 || refused {
		s.c.Logger.Warn("alarms are not received", "receiver", p.target.shown(), "waiting", len(p.outbox.list), "err", err)
	}
	p.failed++
	p.err = err.Error()
	if refused {
		p.outbox.dropped += uint64(len(list))
		return 0
	}
	d := retryWait(p.failures, random)
	if later := new(laterError); errors.As(err, &later) {
		d = max(d, later.after)
	}
	return d
}

// put takes a notice if it is severe enough for the receiver.
func (p *post) put(n Notice) {
	if !n.Test && severities[n.Alert.Severity()] > severities[cmp.Or(p.target.Severity, Info)] {
		return
	}
	p.outbox.Put(n)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Worst is the severity of the worst alarm that fires and is not silenced; empty: none does.
func (s *Service) Worst() string {
	w, _ := s.worst.Load().(string)
	return w
}

// Silence silences what matchers choose until a time. Errors: ErrSilence.
func (s *Service) Silence(matchers []Matcher, by, why string, until time.Time) (Silence, error) {
	var id [8]byte
	if _, err := io.ReadFull(s.c.Random, id[:]); err != nil {
		return Silence{}, fmt.Errorf("alarms: %w", err)
	}
	now := time.Now()
	x := Silence{ID: hex.EncodeToString(id[:]), Matchers: matchers, By: by, Why: why, From: now, Until: until}
	if err := x.check(now); err != nil {
		return Silence{}, err
	}
	for _, m := range matchers {
		if m.Name == LabelName && m.Op == "=" && !slices.ContainsFunc(s.c.Rules, func(r *Rule) bool { return r.Name == m.Value }) {
			return Silence{}, fmt.Errorf("alarms: %w: no rule of this box is called %q; `holdfast alarm rules --states` lists them", ErrSilence, m.Value)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.silences.Add(x, now); err != nil {
		return Silence{}, err
	}
	s.tell(now)
	s.touch()
	return x, nil
}

// Unsilence ends a silence, by its id or the first digits of it. Errors: ErrUnknown.
func (s *Service) Unsilence(id string) (Silence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.silences.End(id)
	if err == nil {
		s.tell(time.Now())
		s.touch()
	}
	return x, err
}

// Test has every receiver told of an alarm that is none. It says how many there are.
func (s *Service) Test(by string) int {
	now := time.Now()
	labels := map[string]string{LabelName: "HoldfastTest", LabelSeverity: Info, LabelSite: s.c.Site, LabelBox: s.c.Box, LabelScope: ScopeBox}
	a := &Alert{
		Labels: labels, Fingerprint: fingerprint(labels), State: Firing, Since: now, Fired: now,
		Annotations: map[string]string{
			annotationSummary:     "A test of alarms on box " + s.c.Box,
			annotationDescription: "Somebody asked the box to say something (" + by + "). Nothing is wrong.",
			annotationAction:      "Nothing. It is resolved at once.",
			annotationConsole:     "/alarms",
		},
	}
	s.link(a)
	over := a.clone()
	over.State, over.Resolved = Resolved, now
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.boxes {
		p.put(Notice{At: now, Status: Firing, Alert: a, Test: true})
		if p.heard == nil { // which would say neither; it takes it to be over by itself
			p.put(Notice{At: now, Status: Resolved, Alert: over, Test: true})
		}
	}
	s.touch()
	return len(s.boxes)
}
