"For all tests: Ctrl-C is heard, also where the suite itself was started in the background of a shell, which lets its jobs ignore it"
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

from browser import browser, lab  # fixtures of the browser tests: one Chromium and one JupyterLab for all files
