package operators

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// Limits of sessions.
const (
	// idleMax: a browser that was left alone is logged out; absoluteMax: so is one that was not, after a shift.
	idleMax     = 30 * time.Minute
	absoluteMax = 12 * time.Hour
	// perOperatorMax: a person has a few browsers; the one not used longest ends for a new one. sessionsMax bounds all.
	perOperatorMax = 8
	sessionsMax    = 128
	tokenBytes     = 32
	agentMax       = 120
)

// Session is one browser or program that an operator has logged in. Its fields do not change.
type Session struct {
	ID       string // for lists; it opens nothing
	Operator string
	Began    time.Time
	Source   string
	Agent    string // what the browser calls itself

	token   [sha256.Size]byte // of what the cookie has
	csrf    string
	passkey []byte // the id of the one that it began with, or nil

	mu    sync.Mutex
	lock  [sha256.Size]byte // of the operator's document at the login
	key   *ecdsa.PrivateKey // nil after the end, and while nobody has given the password
	ended bool
	last  time.Time
}

// Principal is who acts.
func (s *Session) Principal() string { return PrincipalPrefix + s.Operator }

// CSRF is what a form of this session must bring along.
func (s *Session) CSRF() string { return s.csrf }

// CheckCSRF compares in constant time.
func (s *Session) CheckCSRF(got string) bool {
	return subtle.ConstantTimeCompare([]byte(s.csrf), []byte(got)) == 1
}

// WithKey calls fn with the operator's private key, which fn must not keep. Errors: ErrNoSession, ErrLocked, or fn's.
func (s *Session) WithKey(fn func(key *ecdsa.PrivateKey) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return ErrNoSession
	case s.key == nil:
		return ErrLocked
	}
	return fn(s.key)
}

// Locked says that the session began with a passkey and has not the operator's key, so that it may look, and not decide.
func (s *Session) Locked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key == nil
}

// unlock gives the session its operator's key.
func (s *Session) unlock(key *ecdsa.PrivateKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.key = key
	}
}

// of says whether a session is that of an operator as the document has it now: not after the operator was disabled, got another
// key or password, or lost the passkey that it began with.
func (s *Session) of(d *Document) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !d.Disabled && s.lock == d.lock() && (s.passkey == nil || d.passkey(s.passkey) != nil)
}

// relock has the session go on with a document whose password it changed itself.
func (s *Session) relock(d *Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock = d.lock()
}

// Last is when it was used last.
func (s *Session) Last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.ended = nil, true
}

// sessions are all of a box. They are in memory only: a restart logs everybody out.
type sessions struct {
	mu   sync.Mutex
	list map[[sha256.Size]byte]*Session
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// begin makes a session and gives its token, which is in no other place. passkey is the id of what it began with; nil: the password, which
// opened key.
func (l *sessions) begin(d *Document, key *ecdsa.PrivateKey, passkey []byte, source, agent string, now time.Time) (*Session, string) {
	token := random(tokenBytes)
	id := make([]byte, 6)
	_, _ = rand.Read(id)
	s := &Session{
		ID: hex.EncodeToString(id), Operator: d.Name, Began: now, Source: source, Agent: agent[:min(len(agent), agentMax)],
		token: sha256.Sum256([]byte(token)), csrf: random(tokenBytes), passkey: passkey, lock: d.lock(), key: key, last: now,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room(d.Name, now)
	l.list[s.token] = s
	return s, token
}

// room ends what is over, and those used longest ago where there are too many; mu is held.
func (l *sessions) room(name string, now time.Time) {
	var own, all []*Session
	for k, s := range l.list {
		if s.over(now) {
			s.end()
			delete(l.list, k)
			continue
		}
		all = append(all, s)
		if s.Operator == name {
			own = append(own, s)
		}
	}
	oldest := func(list []*Session) *Session {
		return slices.MinFunc(list, func(a, b *Session) int { return a.Last().Compare(b.Last()) })
	}
	switch {
	case len(own) >= perOperatorMax:
		l.drop(oldest(own))
	case len(all) >= sessionsMax:
		l.drop(oldest(all))
	}
}

func (l *sessions) drop(s *Session) {
	s.end()
	delete(l.list, s.token)
}

func (s *Session) over(now time.Time) bool {
	return now.Sub(s.Began) > absoluteMax || now.Sub(s.Last()) > idleMax
}

// get finds the session of a token and counts as its use.
func (l *sessions) get(token string, now time.Time) *Session {
	k := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.list[k]
	if s == nil {
		return nil
	}
	if s.over(now) {
		l.drop(s)
		return nil
	}
	s.mu.Lock()
	s.last = now
	s.mu.Unlock()
	return s
}

// endWhere ends the sessions that which chooses, and says how many they were.
func (l *sessions) endWhere(which func(*Session) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		if which(s) {
			l.drop(s)
			n++
		}
	}
	return n
}

// all lists those that are not over, newest first.
func (l *sessions) all(now time.Time) []*Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Session
	for _, s := range l.list {
		if !s.over(now) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Session) int { return b.Began.Compare(a.Began) })
	return out
}
