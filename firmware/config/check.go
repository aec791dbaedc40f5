package config

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/hal"
)

// Bounds of values. Outside of them a box does not work, or works against its site.
const (
	segmentMin     Size = 1 << 20               // a batch frame can be 1.3 MiB; smaller segments would be one batch each
	segmentMax     Size = 1 << 30               // a segment is preallocated as a whole
	retainMax      Size = 1 << 40               // beyond any card
	auditMin       Size = 1 << 20               // a few thousand records
	tracesMin      Size = 256 << 10             // a hundred traces
	tracesMax      Size = 1 << 30               // half a million
	seriesMin      Size = 4 << 20               // a day or two (store.SeriesBytesMin)
	sampleMin           = time.Second           // more often costs more than it shows
	sampleMax           = 30 * time.Second      // an alarm looks at a minute
	memoryMin      Size = 16 << 20              // below this the collector runs without end
	roundMin            = 20 * time.Millisecond // below the fsync of a card leaders change for nothing
	waitMax             = time.Minute           // a minute without a leader is an outage, whatever the reason
	drainMin            = time.Millisecond      // no drain at all would lose answers for nothing
	drainMax            = 30 * time.Second      // service managers kill after 90 s
	heartbeatMin        = 10 * time.Millisecond // more often is load, not knowledge
	connectionsMax      = 1 << 16               // file descriptors of one process
	gcPercentMin        = 10                    // below, the collector takes most of the CPU
	gcPercentMax        = 1000                  // ten times the live heap
	revisionsMax        = 1 << 40               // more than a card holds
	keepMax             = 366 * 24 * time.Hour  // beyond, compact by hand
	workBitsMax         = 30                    // a thousand million hashes: minutes (coord/trust/join.WorkBitsMax)
	serversMax          = 16                    // boxes that a new one may ask
	hostsMax            = 64                    // names of one console
	busyPollMax         = time.Millisecond      // longer than an interrupt ever waits
	pcrMax              = 23                    // of a TPM for PCs (PC Client Platform TPM Profile)
	suggestEdits        = 2                     // between a misspelt key and the one that was meant
)

func (c *Config) check() error {
	if c.DataDir == "" {
		return fmt.Errorf("%w: data_dir is empty; name the box's directory", ErrValue)
	}
	for _, a := range []struct{ key, value string }{
		{"peer.listen", c.Peer.Listen},
		{"client.listen", c.Client.Listen},
		{"native.listen", c.Native.Listen},
		{"console.listen", c.Console.Listen},
		{"join.listen", c.Join.Listen},
	} {
		if err := checkListen(a.key, a.value); err != nil {
			return err
		}
	}
	if _, err := c.NativeListen(); err != nil {
		return err
	}
	if err := c.Console.check(); err != nil {
		return err
	}
	switch cl := &c.Client; {
	case cl.TLS != "auto" && cl.TLS != "on" && cl.TLS != "off":
		return fmt.Errorf("%w: client.tls = %q; it is auto, on or off", ErrValue, cl.TLS)
	case (cl.CertFile == "") != (cl.KeyFile == ""):
		return fmt.Errorf("%w: client.cert_file and client.key_file belong together; set both or none", ErrValue)
	case cl.ClientCAFile != "" && !cl.Secure():
		return fmt.Errorf("%w: client.client_ca_file needs TLS; set client.tls = \"on\"", ErrValue)
	}
	if err := c.checkSecrets(); err != nil {
		return err
	}
	if c.Console.Listen == "" && c.Console.Socket == "" {
		return fmt.Errorf("%w: console.listen and console.socket are both empty; nobody could ask the box anything", ErrValue)
	}
	if len(c.Console.Hosts) > hostsMax {
		return fmt.Errorf("%w: console.hosts has more than %d names", ErrValue, hostsMax)
	}
	if err := c.Join.check(); err != nil {
		return err
	}
	if err := c.HAL.check(); err != nil {
		return err
	}
	if err := c.Traces.check(); err != nil {
		return err
	}
	if err := c.Alarms.check(); err != nil {
		return err
	}
	if s := c.Update.Slot; s != "" && s != "a" && s != "b" {
		return fmt.Errorf("%w: update.slot = %q; it is a, b or empty", ErrValue, s)
	}
	for _, k := range c.Update.Keys {
		if _, err := release.ParseKey(k); err != nil {
			return fmt.Errorf("%w: update.keys has %.80q: %w; `holdfast update key --show FILE` prints one", ErrValue, k, err)
		}
	}
	return c.checkRanges()
}

func (t *Traces) check() error {
	if !(t.Sample >= 0 && t.Sample <= 1) {
		return fmt.Errorf("%w: traces.sample = %v; it is a share from 0 to 1", ErrValue, t.Sample)
	}
	if t.OTLP == "" {
		return nil
	}
	u, err := url.Parse(t.OTLP)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%w: traces.otlp = %q; it is where a collector takes OTLP over HTTP, such as https://collector:4318", ErrValue, t.OTLP)
	}
	return nil
}

// checkSecrets is about where keys lie.
func (c *Config) checkSecrets() error {
	if k := c.Identity.Key; k != "auto" && k != "file" && k != "tpm" {
		return fmt.Errorf("%w: identity.key = %q; it is auto, file or tpm", ErrValue, k)
	}
	if k := c.Encryption.Key; k != "off" && k != "tpm" && k != "passphrase" {
		return fmt.Errorf("%w: encryption.key = %q; it is off, tpm or passphrase", ErrValue, k)
	}
	for _, p := range c.TPM.PCRs {
		if p > pcrMax {
			return fmt.Errorf("%w: tpm.pcrs has %d; PCRs are from 0 to %d", ErrValue, p, pcrMax)
		}
	}
	if c.TPM.Device == "" {
		return fmt.Errorf("%w: tpm.device is empty; leave it out if there is none", ErrValue)
	}
	return nil
}

func (c *Console) check() error {
	switch {
	case c.TLS != "auto" && c.TLS != "on" && c.TLS != "off":
		return fmt.Errorf("%w: console.tls = %q; it is auto, on or off", ErrValue, c.TLS)
	case !c.Secure() && !c.InsecureNetwork && c.Listen != "" && !Loopback(c.Listen):
		return fmt.Errorf("%w: console.listen = %q is not loopback and the console is plain text; set console.tls = \"on\", or console.insecure_network = true if the network is yours alone",
			ErrValue, c.Listen)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return fmt.Errorf("%w: console.cert_file and console.key_file belong together; set both or none", ErrValue)
	case c.View != "login" && c.View != "open":
		return fmt.Errorf("%w: console.view = %q; it is login or open", ErrValue, c.View)
	case c.Metrics != "login" && c.Metrics != "open":
		return fmt.Errorf("%w: console.metrics = %q; it is login or open", ErrValue, c.Metrics)
	}
	return c.checkPasskeys()
}

// checkPasskeys says whether browsers would take the domain (WebAuthn, 5.1.3: a valid domain, of a page that came over TLS or from the
// machine itself).
func (c *Console) checkPasskeys() error {
	d := c.Passkeys
	switch {
	case d == "" || d == "localhost":
		return nil
	case !isDomain(d) || strings.HasSuffix(d, ".local"):
		return fmt.Errorf("%w: console.passkeys = %q; it is a host name with a dot in it, in small letters, no address, and not below .local, which browsers refuse", ErrValue, d)
	case !c.Secure():
		return fmt.Errorf("%w: console.passkeys = %q and the console is plain text, where browsers have no passkeys; set console.tls = \"on\"", ErrValue, d)
	}
	return nil
}

// domainMax is a name's longest form (RFC 1035, 2.3.4).
const domainMax = 253

// isDomain says whether a name has two labels at least (RFC 1123, 2.1), the last of which begins with a letter, so that it is no address.
func isDomain(name string) bool {
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(labels) > 1 && len(name) <= domainMax && last[0] >= 'a'
}

func (j *Join) check() error {
	if len(j.Servers) > serversMax {
		return fmt.Errorf("%w: join.servers has more than %d addresses", ErrValue, serversMax)
	}
	for _, a := range j.Servers {
		if err := checkListen("join.servers", a); err != nil || a == "" {
			return fmt.Errorf("%w: join.servers: %q is not host:port", ErrValue, a)
		}
	}
	if (j.TokenFile == "") != (len(j.Servers) == 0) {
		return fmt.Errorf("%w: join.token_file and join.servers belong together; set both or none", ErrValue)
	}
	if strings.ContainsAny(j.Address, " \t\r\n/[]") {
		return fmt.Errorf("%w: join.address = %q is no host name or address", ErrValue, j.Address)
	}
	return nil
}

func (h *HAL) check() error {
	if h.Panel && h.Console == "" {
		return fmt.Errorf("%w: hal.console is empty and hal.panel needs it for the setup code; name it, such as /dev/ttyS0", ErrValue)
	}
	if err := knownBoard(h.Board); err != nil {
		return err
	}
	for _, s := range []struct {
		key, value string
		also       string // beside off and measured
		good       func(string) bool
	}{
		{"hal.apply", h.Apply, "plan", func(v string) bool { return v == "plan" }},
		{"hal.loop", h.Loop, "plan, or CPUs such as 3 or 2-3", planOrCPUs},
		{"hal.receive_sockets", h.ReceiveSockets, "plan, or CPUs such as 0-1", planOrCPUs},
		{"hal.busy_poll", h.BusyPoll, fmt.Sprintf("a time such as 50us, up to %v", busyPollMax), func(v string) bool {
			d, err := time.ParseDuration(v)
			return err == nil && d >= time.Microsecond && d <= busyPollMax
		}},
		{"hal.huge_pages", h.HugePages, "on", func(v string) bool { return v == "on" }},
		{"hal.lock_memory", h.LockMemory, "on", func(v string) bool { return v == "on" }},
	} {
		if s.value != "off" && s.value != "measured" && !s.good(s.value) {
			return fmt.Errorf("%w: %s = %q; it is off, measured, %s", ErrValue, s.key, s.value, s.also)
		}
	}
	return nil
}

// knownBoard says whether a profile has this name; a file is looked at when it is used.
func knownBoard(name string) error {
	if name == "" || strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".toml") {
		return nil
	}
	all, err := boards.All()
	if err != nil {
		return err
	}
	var there []string
	for i := range all {
		if all[i].ID == name {
			return nil
		}
		there = append(there, all[i].ID)
	}
	return fmt.Errorf("%w: hal.board = %q; there is no such profile, there are %s, or give a file", ErrValue, name, strings.Join(there, ", "))
}

func planOrCPUs(v string) bool {
	cpus, err := hal.ParseList(v)
	return v == "plan" || err == nil && len(cpus) > 0
}

func (c *Config) checkRanges() error {
	for _, r := range []struct {
		key           string
		value, lo, hi int64
		text          func(int64) string
	}{
		{"log.segment_size", int64(c.Log.SegmentSize), int64(segmentMin), int64(segmentMax), sizeText},
		{"audit.keep_bytes", int64(c.Audit.KeepBytes), int64(auditMin), int64(retainMax), sizeText},
		{"traces.keep_bytes", int64(c.Traces.KeepBytes), int64(tracesMin), int64(tracesMax), sizeText},
		{"metrics.keep_bytes", int64(c.Metrics.KeepBytes), int64(seriesMin), int64(retainMax), sizeText},
		{"metrics.interval", int64(c.Metrics.Interval), int64(sampleMin), int64(sampleMax), durationText},
		{"log.retain_size", int64(c.Log.RetainSize), int64(c.Log.SegmentSize), int64(retainMax), sizeText},
		{"timeouts.round", int64(c.Timeouts.Round), int64(roundMin), int64(waitMax), durationText},
		{"timeouts.leader_down", int64(c.Timeouts.LeaderDown), int64(roundMin), int64(waitMax), durationText},
		{"timeouts.heartbeat", int64(c.Timeouts.Heartbeat), int64(heartbeatMin), int64(waitMax), durationText},
		{"timeouts.peer_stall", int64(c.Timeouts.PeerStall), int64(heartbeatMin), int64(waitMax), durationText},
		{"timeouts.peer_dead", int64(c.Timeouts.PeerDead), 2 * int64(c.Timeouts.Heartbeat), int64(waitMax), durationText},
		{"timeouts.drain", int64(c.Timeouts.Drain), int64(drainMin), int64(drainMax), durationText},
		{"limits.memory_soft", int64(c.Limits.MemorySoft), int64(memoryMin), int64(retainMax), sizeText},
		{"alarms.every", int64(c.Alarms.Every), int64(alarmsEveryMin), int64(alarmsEveryMax), durationText},
		{"join.proof_of_work", int64(c.Join.ProofOfWork), 0, workBitsMax, numberText},
		{"limits.gc_percent", int64(c.Limits.GCPercent), gcPercentMin, gcPercentMax, numberText},
		{"limits.native_connections", int64(c.Limits.NativeConnections), 1, connectionsMax, numberText},
		{"limits.client_connections", int64(c.Limits.ClientConnections), 1, connectionsMax, numberText},
		{"history.keep_revisions", int64(c.History.KeepRevisions), 0, revisionsMax, numberText},
		{"history.keep_time", int64(c.History.KeepTime), 0, int64(keepMax), durationText},
		{"history.keep_bytes", int64(c.History.KeepBytes), 0, int64(retainMax), sizeText},
		{"limits.console_connections", int64(c.Limits.ConsoleConnections), 1, connectionsMax, numberText},
	} {
		if r.value < r.lo || r.value > r.hi {
			return fmt.Errorf("%w: %s = %s must be from %s to %s", ErrValue, r.key, r.text(r.value), r.text(r.lo), r.text(r.hi))
		}
	}
	return nil
}

func numberText(n int64) string   { return strconv.FormatInt(n, 10) }
func sizeText(n int64) string     { return Size(n).String() }
func durationText(n int64) string { return time.Duration(n).String() }

func checkListen(key, value string) error {
	if value == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("%w: %s = %q is not host:port", ErrValue, key, value)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: %s = %q has no port from 1 to 65535", ErrValue, key, value)
	}
	if strings.ContainsAny(host, " \t\n/") {
		return fmt.Errorf("%w: %s = %q has no host name or address", ErrValue, key, value)
	}
	return nil
}

// Loopback says whether a listen address is reachable from the same machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// unknownKey names the line, and the key that was probably meant.
func unknownKey(data []byte, key toml.Key) error {
	at := ""
	if n := lineOf(data, key); n > 0 {
		at = fmt.Sprintf("line %d: ", n)
	}
	hint := "`holdfast config show` lists all keys"
	best, distance := "", suggestEdits+1
	for _, k := range keys(reflect.TypeFor[Config](), "") {
		if d := edits(k, key.String()); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		hint = fmt.Sprintf("did you mean %q?", best)
	}
	return fmt.Errorf("%s%w %q; %s", at, ErrUnknownKey, key.String(), hint)
}

// lineOf finds the line that sets key, from 1, or 0. The TOML library does not say; this
// knows tables and plain, quoted and dotted keys, which is what people write.
func lineOf(data []byte, key toml.Key) int {
	want := strings.Join(key, ".")
	table, number := "", 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			name, _, _ := strings.Cut(strings.Trim(line, "["), "]")
			table = plain(name) + "."
			if strings.TrimSuffix(table, ".") == want {
				return number
			}
			continue
		}
		name, _, found := strings.Cut(line, "=")
		if found && (table+plain(name) == want || strings.HasPrefix(want, table+plain(name)+".")) {
			return number
		}
	}
	return 0
}

func plain(key string) string {
	return strings.NewReplacer(" ", "", "\t", "", `"`, "", "'", "").Replace(key)
}

// edits is the Levenshtein distance of two keys.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
