from transfer import *
