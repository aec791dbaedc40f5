// Package config reads a box's configuration: one TOML file in which every key has a
// default, an unknown key is an error, and every complaint names the key, the line and
// what to do. It decides nothing else: who uses a value gives it its meaning.
//
// default.toml is the single source of the defaults and of what the keys mean:
// Default reads it, `holdfast config show` prints it.
package config

import (
	"bytes"
	_ "embed" // default.toml
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// fileBytesMax bounds what is read of a configuration: the commented default is 3 KiB.
const fileBytesMax = 256 << 10

// Errors of this package.
var (
	// ErrSyntax says that the file is not TOML, or a value does not have its key's type.
	ErrSyntax = errors.New("cannot be read")
	// ErrUnknownKey says that the file has a key that no part of the product knows.
	ErrUnknownKey = errors.New("unknown key")
	// ErrValue says that a value cannot be.
	ErrValue = errors.New("bad value")
)

//go:embed default.toml
var defaultText []byte

// Config is the configuration of one box. default.toml says what each key means.
type Config struct {
	DataDir  string   `toml:"data_dir" json:"data_dir"`
	Name     string   `toml:"name" json:"name"`
	Identity Identity `toml:"identity" json:"identity"`
	TPM      TPM      `toml:"tpm" json:"tpm"`

	Encryption Encryption `toml:"encryption" json:"encryption"`

	Peer     Peer     `toml:"peer" json:"peer"`
	Client   Client   `toml:"client" json:"client"`
	History  History  `toml:"history" json:"history"`
	Native   Native   `toml:"native" json:"native"`
	Console  Console  `toml:"console" json:"console"`
	Log      Log      `toml:"log" json:"log"`
	Timeouts Timeouts `toml:"timeouts" json:"timeouts"`
	Limits   Limits   `toml:"limits" json:"limits"`
	HAL      HAL      `toml:"hal" json:"hal"`
	Audit    Audit    `toml:"audit" json:"audit"`
	Traces   Traces   `toml:"traces" json:"traces"`
	Join     Join     `toml:"join" json:"join"`
	Alarms   Alarms   `toml:"alarms" json:"alarms"`
	Metrics  Metrics  `toml:"metrics" json:"metrics"`
	Update   Update   `toml:"update" json:"update"`

	dir string // of the file that it was read from; empty: of none
}

// Identity is about the box's own key.
type Identity struct {
	Key string `toml:"key" json:"key"`
}

// TPM is about the chip that seals secrets.
type TPM struct {
	Device string `toml:"device" json:"device"`
	PCRs   []uint `toml:"pcrs" json:"pcrs"`
}

// Encryption is about what lies on the disk.
type Encryption struct {
	Key            string `toml:"key" json:"key"`
	PassphraseFile string `toml:"passphrase_file" json:"passphrase_file"`
}

// Peer is about the links between boxes.
type Peer struct {
	Listen string `toml:"listen" json:"listen"`
}

// Client is about the etcd API.
type Client struct {
	Listen       string `toml:"listen" json:"listen"`
	TLS          string `toml:"tls" json:"tls"`
	CertFile     string `toml:"cert_file" json:"cert_file"`
	KeyFile      string `toml:"key_file" json:"key_file"`
	ClientCAFile string `toml:"client_ca_file" json:"client_ca_file"`
}

// Secure says whether the etcd API speaks TLS.
func (c *Client) Secure() bool { return c.TLS == "on" || c.TLS == "auto" && !Loopback(c.Listen) }

// History is about old revisions of keys.
type History struct {
	KeepRevisions int      `toml:"keep_revisions" json:"keep_revisions"`
	KeepTime      Duration `toml:"keep_time" json:"keep_time"`
	KeepBytes     Size     `toml:"keep_bytes" json:"keep_bytes"`
}

// Metrics is about what the box remembers of its metrics.
type Metrics struct {
	Interval  Duration `toml:"interval" json:"interval"`
	KeepBytes Size     `toml:"keep_bytes" json:"keep_bytes"`
}

// Native is about the native stream.
type Native struct {
	Listen string `toml:"listen" json:"listen"`
	Socket string `toml:"socket" json:"socket"`
}

// Console is about the HTTP console.
type Console struct {
	Listen          string   `toml:"listen" json:"listen"`
	Socket          string   `toml:"socket" json:"socket"`
	TLS             string   `toml:"tls" json:"tls"`
	CertFile        string   `toml:"cert_file" json:"cert_file"`
	KeyFile         string   `toml:"key_file" json:"key_file"`
	InsecureNetwork bool     `toml:"insecure_network" json:"insecure_network"`
	View            string   `toml:"view" json:"view"`
	Metrics         string   `toml:"metrics" json:"metrics"`
	Hosts           []string `toml:"hosts" json:"hosts"`
	Passkeys        string   `toml:"passkeys" json:"passkeys"`
}

// Secure says whether the console speaks TLS.
func (c *Console) Secure() bool {
	return c.TLS == "on" || c.TLS == "auto" && !Loopback(c.Listen) && !c.InsecureNetwork
}

// Log is about the ordering log.
type Log struct {
	SegmentSize Size `toml:"segment_size" json:"segment_size"`
	RetainSize  Size `toml:"retain_size" json:"retain_size"`
}

// Timeouts are times that the box waits.
type Timeouts struct {
	Round      Duration `toml:"round" json:"round"`
	LeaderDown Duration `toml:"leader_down" json:"leader_down"`
	Heartbeat  Duration `toml:"heartbeat" json:"heartbeat"`
	PeerStall  Duration `toml:"peer_stall" json:"peer_stall"`
	PeerDead   Duration `toml:"peer_dead" json:"peer_dead"`
	Drain      Duration `toml:"drain" json:"drain"`
}

// Limits bound what the box uses.
type Limits struct {
	MemorySoft         Size `toml:"memory_soft" json:"memory_soft"`
	GCPercent          int  `toml:"gc_percent" json:"gc_percent"`
	NativeConnections  int  `toml:"native_connections" json:"native_connections"`
	ClientConnections  int  `toml:"client_connections" json:"client_connections"`
	ConsoleConnections int  `toml:"console_connections" json:"console_connections"`
}

// Audit is about the record of what was done and refused.
type Audit struct {
	KeepBytes Size `toml:"keep_bytes" json:"keep_bytes"`
}

// Traces are about where the time of batches went.
type Traces struct {
	Sample      float64 `toml:"sample" json:"sample"`
	KeepBytes   Size    `toml:"keep_bytes" json:"keep_bytes"`
	OTLP        string  `toml:"otlp" json:"otlp"`
	HeadersFile string  `toml:"otlp_headers_file" json:"otlp_headers_file"`
	CAFile      string  `toml:"otlp_ca_file" json:"otlp_ca_file"`
}

// Join is about new boxes: the port where they ask, and, on a new box, whom it asks.
type Join struct {
	Listen      string   `toml:"listen" json:"listen"`
	ProofOfWork int      `toml:"proof_of_work" json:"proof_of_work"`
	TokenFile   string   `toml:"token_file" json:"token_file"`
	Servers     []string `toml:"servers" json:"servers"`
	Address     string   `toml:"address" json:"address"`
}

// Update is about new firmware.
type Update struct {
	Keys   []string `toml:"keys" json:"keys"`
	ESP    string   `toml:"esp" json:"esp"`
	Slot   string   `toml:"slot" json:"slot"`
	Board  string   `toml:"board" json:"board"`
	Reboot []string `toml:"reboot" json:"reboot"`
}

// HAL is about the machine below.
type HAL struct {
	Apply          string `toml:"apply" json:"apply"`
	Loop           string `toml:"loop" json:"loop"`
	ReceiveSockets string `toml:"receive_sockets" json:"receive_sockets"`
	BusyPoll       string `toml:"busy_poll" json:"busy_poll"`
	HugePages      string `toml:"huge_pages" json:"huge_pages"`
	LockMemory     string `toml:"lock_memory" json:"lock_memory"`
	Board          string `toml:"board" json:"board"`
	Panel          bool   `toml:"panel" json:"panel"`
	Console        string `toml:"console" json:"console"`
}

// Settings are the values of what a calibration can measure, by key; to change them.
func (h *HAL) Settings() map[string]*string {
	return map[string]*string{
		"hal.apply": &h.Apply, "hal.loop": &h.Loop, "hal.receive_sockets": &h.ReceiveSockets,
		"hal.busy_poll": &h.BusyPoll, "hal.huge_pages": &h.HugePages, "hal.lock_memory": &h.LockMemory,
	}
}

// DefaultText is the commented default configuration; the caller owns the copy.
func DefaultText() []byte { return bytes.Clone(defaultText) }

// Default is the configuration of an empty file. Its error is a broken build.
func Default() (*Config, error) {
	c := new(Config)
	if _, err := toml.Decode(string(defaultText), c); err != nil {
		return nil, fmt.Errorf("config: default: %w", err)
	}
	return c, nil
}

// Load reads, completes and checks the configuration in path. Relative paths in it are
// made absolute, from the file's directory.
//
// Errors: ErrSyntax, ErrUnknownKey, ErrValue, or what the file system says.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: open: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("config: read: %w", err)
	}
	if len(data) > fileBytesMax {
		return nil, fmt.Errorf("config: %s: %w: larger than %d bytes", path, ErrSyntax, fileBytesMax)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	c.dir = dir
	c.resolve(dir, "")
	return c, nil
}

// resolve makes relative paths absolute: from dir, or from dataDir, which is the configuration's own if it is empty.
func (c *Config) resolve(dir, dataDir string) {
	c.DataDir = under(dir, c.DataDir)
	if dataDir == "" {
		dataDir = c.DataDir
	}
	c.Native.Socket = under(dataDir, c.Native.Socket)
	c.Console.Socket = under(dataDir, c.Console.Socket)
	for _, f := range []*string{&c.Client.CertFile, &c.Client.KeyFile, &c.Client.ClientCAFile, &c.Console.CertFile, &c.Console.KeyFile} {
		*f = under(dir, *f)
	}
	c.Join.TokenFile = under(dir, c.Join.TokenFile)
	c.Traces.HeadersFile, c.Traces.CAFile = under(dir, c.Traces.HeadersFile), under(dir, c.Traces.CAFile)
	c.Alarms.under(dir)
	c.Update.ESP = under(dir, c.Update.ESP)
	c.Encryption.PassphraseFile = under(dir, c.Encryption.PassphraseFile)
	if strings.HasSuffix(c.HAL.Board, ".toml") {
		c.HAL.Board = under(dir, c.HAL.Board)
	}
}

// Parse completes the text of a configuration with the defaults and checks it. Paths stay
// as they are written.
func Parse(data []byte) (*Config, error) {
	c, err := Default()
	if err != nil {
		return nil, err
	}
	meta, err := toml.Decode(string(data), c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("line %d: %w: %s", pe.Position.Line, ErrSyntax, pe.Message)
		}
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, unknownKey(data, unknown[0])
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// NativeListen is where the native stream is served: native.listen, or the client port plus one.
func (c *Config) NativeListen() (string, error) {
	if c.Native.Listen != "" || c.Client.Listen == "" {
		return c.Native.Listen, nil
	}
	host, port, err := net.SplitHostPort(c.Client.Listen)
	if err != nil {
		return "", fmt.Errorf("%w: client.listen: %w", ErrValue, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n >= 65535 {
		return "", fmt.Errorf("%w: client.listen: no port follows %s; set native.listen", ErrValue, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1)), nil
}

// Encode writes c as TOML that Load reads back.
func (c *Config) Encode(w io.Writer) error {
	e := toml.NewEncoder(w)
	e.Indent = ""
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("config: encode: %w", err)
	}
	return nil
}

func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// keys lists every key of t as it is written in a file, in order.
func keys(t reflect.Type, prefix string) (list []string) {
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		name := prefix + f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == t.PkgPath() && f.Type.NumField() > 0 {
			list = append(list, keys(f.Type, name+".")...)
			continue
		}
		list = append(list, name)
	}
	return list
}
