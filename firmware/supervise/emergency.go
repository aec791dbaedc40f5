package supervise

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

const (
	// doorConnections is how many may look at the emergency console at a time.
	doorConnections = 32
	// doorTime bounds a request to it, but for the copy of the data.
	doorTime = 10 * time.Second
	// guessEvery is how often a wrong setup code is answered and logged, for everybody together; that nobody finds one is up to its 80 bits.
	guessEvery = 2 * time.Second
	formBytes  = 4 << 10
	certYears  = 10
)

// emergencyBoot shows why the data cannot be used, on a network that is set up with what is known, until somebody has chosen.
// A choice to look at the data read-only is done here, and it goes on waiting.
func (m *machine) emergencyBoot(ctx context.Context, why error) act {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.file = readEmergency(dataDir, m.esp)
	host := m.setHostname()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { m.runNetwork(ctx, host) })
	all.Go(func() { m.runMDNS(ctx, host) })
	all.Go(func() { m.menu(ctx) })
	defer unmount(m.log, dataDir) // if it is there to be read
	dog := m.armDog()
	return m.emergency(ctx, why, dog)
}

// emergency shows why the machine cannot do its work until somebody has chosen what to do. It is fed meanwhile: a reset
// would find the same.
func (m *machine) emergency(ctx context.Context, why error, dog *dog) act {
	m.change(func(s *status.Status) { s.Mode, s.Reason = status.Emergency, why.Error() })
	defer m.change(func(s *status.Status) { s.Mode, s.Reason = status.Starting, "" })
	d := m.openDoor(why.Error(), true)
	defer d.close()
	said := m.consoleNow()
	m.console.print(fmt.Sprintf("\n*** EMERGENCY: %v\n*** Console: %s (setup code %s). Enter opens the menu here.\n\n", why, said, m.code()))
	feed := time.NewTicker(dog.every())
	defer feed.Stop()
	for {
		select {
		case <-ctx.Done():
			return actReboot
		case <-m.address:
			if now := m.consoleNow(); now != said {
				said = now
				m.console.print("*** EMERGENCY console: " + now + "\n")
			}
		case <-feed.C:
			dog.kick(m.log)
		case a := <-m.acts:
			if a != actReadOnly {
				return a
			}
			if err := m.mountReadOnly(); err != nil {
				m.log.Error("the data cannot even be read", "err", err)
				m.change(func(s *status.Status) { s.Reason = fmt.Sprintf("%v; nor can it be read: %v", why, err) })
			}
		}
	}
}

func (m *machine) consoleNow() string {
	s := m.status()
	return cmp.Or(consoleURL(&s), "no address yet")
}

// mountReadOnly mounts the data as it lies there, without playing back its journal.
func (m *machine) mountReadOnly() error {
	s := m.status()
	if s.Data.Device == "" {
		return errors.New("there is no data partition")
	}
	if err := unix.Mount(device(s.Data.Device), dataDir, "ext4", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "noload"); err != nil {
		return fmt.Errorf("mount %s read-only: %w", s.Data.Device, err)
	}
	m.change(func(s *status.Status) { s.Data.ReadOnly = true })
	m.showCrashes()
	return nil
}

// code is what proves that somebody stands beside the box: its setup code, and where that cannot be read one for this start,
// which is on the console only.
func (m *machine) code() string {
	if s := m.status(); s.Data.Device != "" {
		if c, err := setupcode.Of(dataDir); err == nil { // on a disk that is only read there may be none to make
			return c
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.once == "" {
		m.once = rand.Text()[:16]
	}
	return m.once
}

// door is the console while the coordinator is not there to serve one.
type door struct {
	server *http.Server
	ended  sync.WaitGroup
}

// close ends it, at once. A nil door is closed.
func (d *door) close() {
	if d == nil {
		return
	}
	_ = d.server.Close() // its connections end with it
	d.ended.Wait()
}

// openDoor serves the emergency console: choose says that there is something to choose. Where its port cannot be had there is none,
// which is said.
func (m *machine) openDoor(reason string, choose bool) *door {
	cert, err := selfSigned(m.status().Hostname)
	var l net.Listener
	if err == nil {
		l, err = net.Listen("tcp", net.JoinHostPort("", settings.ConsolePort))
	}
	if err != nil {
		m.log.Error("no emergency console", "err", err)
		return nil
	}
	v := &doorView{m: m, reason: reason, choose: choose}
	d := &door{server: &http.Server{
		Handler: v.routes(), ReadHeaderTimeout: doorTime, ReadTimeout: doorTime, IdleTimeout: doorTime, MaxHeaderBytes: 8 << 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}}
	d.ended.Go(func() {
		if err := d.server.ServeTLS(crowd.Share(l, doorConnections), "", ""); !errors.Is(err, http.ErrServerClosed) {
			m.log.Error("the emergency console has ended", "err", err)
		}
	})
	return d
}

// selfSigned is a certificate for this start: the box's own key cannot be relied on here.
func selfSigned(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: host + " (emergency)"}, DNSNames: []string{host, host + ".local"},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(certYears, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// doorView is the emergency console's pages.
type doorView struct {
	m      *machine
	reason string
	choose bool

	mu      sync.Mutex
	guessed time.Time
}

func (v *doorView) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", v.page)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, v.reason, http.StatusServiceUnavailable)
	})
	mux.HandleFunc("POST /act", v.act)
	mux.HandleFunc("POST /crash", v.crash)
	mux.HandleFunc("POST /data.tar", v.data)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		r.Body = http.MaxBytesReader(w, r.Body, formBytes)
		mux.ServeHTTP(w, r)
	})
}

// doorPage reads without script. The reports need the code: what a coordinator printed may name things.
const doorPage = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.S.Hostname}}: emergency</title><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}
.why{border-left:4px solid #c33;padding:.5rem 1rem;overflow-wrap:anywhere}button,input{font:inherit;padding:.4rem .8rem;margin:.2rem 0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
</style></head><body><main><h1>{{.S.Hostname}} cannot do its work</h1><p class="why" role="alert">{{.Reason}}</p>
<table><tr><th scope="row">Release</th><td>{{.S.Version}}{{with .S.Slot}}, slot {{.}}{{end}}</td></tr>
<tr><th scope="row">Data</th><td>{{with .S.Data.Device}}{{.}}{{else}}none{{end}}{{if .S.Data.ReadOnly}}, read-only{{end}}</td></tr>
<tr><th scope="row">Boot medium</th><td>{{with .S.Provisioned}}{{.}}{{else}}nothing new{{end}}</td></tr></table>
{{if .Choose}}<h2>What to do</h2>{{else}}<p>It is started again by itself.</p>{{end}}
<form method="post" action="/act"><p><label>Setup code <input name="code" autocomplete="off" required></label> (on the serial console)</p>
<p><button name="act" value="retry">Try again</button> <button name="act" value="reboot">Start the machine again</button>
{{if .Choose}}<button name="act" value="read-only">Mount the data read-only</button>{{end}}</p>
<p><button name="act" value="factory-reset">Factory reset</button> <label><input type="checkbox" name="sure" value="yes"> I know that everything on this box is removed</label></p></form>
{{if .S.Data.ReadOnly}}<h2>Copy the data</h2><form method="post" action="/data.tar"><p><label>Setup code <input name="code" autocomplete="off" required></label> <button>Download a tar without the box's secrets</button></p></form>{{end}}
{{if .S.Crashes}}<h2>Crash reports</h2><form method="post" action="/crash"><p><label>Setup code <input name="code" autocomplete="off" required></label></p>
<ul>{{range .S.Crashes}}<li><button name="file" value="{{.File}}">{{.At.UTC.Format "2006-01-02 15:04:05"}}</button> {{.How}}</li>{{end}}</ul></form>{{end}}
</main></body></html>`

func (v *doorView) page(w http.ResponseWriter, _ *http.Request) {
	t, err := template.New("door").Parse(doorPage)
	if err != nil {
		http.Error(w, v.reason, http.StatusInternalServerError)
		return
	}
	st, reason := v.m.status(), v.reason
	if v.choose {
		reason = cmp.Or(st.Reason, reason) // what came of a choice is in it
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = t.Execute(w, struct { // the reader has gone: nothing to tell it
		S      status.Status
		Reason string
		Choose bool
	}{st, reason, v.choose})
}

// may says whether a request has the setup code, and answers it when not.
func (v *doorView) may(w http.ResponseWriter, r *http.Request) bool {
	v.mu.Lock()
	soon := time.Since(v.guessed) < guessEvery
	// A right one counts at once: who floods the page with wrong ones must not keep out who stands beside the box.
	good := setupcode.Same(v.m.code(), r.PostFormValue("code"))
	if !soon && !good {
		v.guessed = time.Now()
	}
	v.mu.Unlock()
	switch {
	case good:
	case soon:
		w.Header().Set("Retry-After", "2")
		http.Error(w, "Somebody has just tried a wrong setup code; wait a moment.", http.StatusTooManyRequests)
	default:
		v.m.log.Warn("a wrong setup code", "from", r.RemoteAddr)
		http.Error(w, "That is not the setup code. It is on the serial console.", http.StatusForbidden)
	}
	return good
}

func (v *doorView) act(w http.ResponseWriter, r *http.Request) {
	if !v.may(w, r) {
		return
	}
	a := act(r.PostFormValue("act"))
	known := []act{actRetry, actReboot, actReset}
	if v.choose {
		known = append(known, actReadOnly)
	}
	switch {
	case !slices.Contains(known, a):
		http.Error(w, "There is no such choice.", http.StatusBadRequest)
	case a == actReset && r.PostFormValue("sure") != "yes":
		http.Error(w, "Everything on this box would be removed: tick the box beside the button.", http.StatusBadRequest)
	case !v.m.wish(a):
		http.Error(w, "The machine is busy.", http.StatusServiceUnavailable)
	default:
		v.m.log.Warn("chosen on the emergency console", "act", a, "from", r.RemoteAddr)
		_, _ = io.WriteString(w, "Being done: "+string(a)+". Look again in a moment.\n") // the reader has gone: nothing to tell it
	}
}

func (v *doorView) crash(w http.ResponseWriter, r *http.Request) {
	if !v.may(w, r) {
		return
	}
	c, err := crash.Read(dataDir, r.PostFormValue("file"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(c.Text) // the reader has gone: nothing to tell it
}

// data streams what can be read, without the files that make the box who it is.
func (v *doorView) data(w http.ResponseWriter, r *http.Request) {
	if !v.may(w, r) {
		return
	}
	if !v.m.status().Data.ReadOnly {
		http.Error(w, "Mount the data read-only first.", http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="holdfast-data.tar"`)
	if err := writeTar(w, dataDir); err != nil {
		v.m.log.Warn("the copy of the data is not complete", "err", err)
	}
}

// writeTar writes the plain files below dir but for secrets. A file that cannot be read is left out, with its error in place of it.
func writeTar(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || secret(at) {
			return nil // what cannot be read is not there
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		f, err := os.Open(at)
		if err != nil {
			return nil
		}
		defer f.Close()
		if err := t.WriteHeader(&tar.Header{Name: rel, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
			return err
		}
		n, err := io.Copy(t, io.LimitReader(f, info.Size()))
		if err == nil && n == info.Size() {
			return nil
		}
		if n < info.Size() { // damaged: what is missing is zeros
			_, err = io.CopyN(t, zeros{}, info.Size()-n)
		}
		return err
	})
	return errors.Join(err, t.Close())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
