from run_agent import *
